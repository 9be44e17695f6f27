"""What the routes share: one detector, its thread, its words' thread, and the vocabularies."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from io import BytesIO
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Response
from pydantic import BaseModel
from torch import Tensor

from regionclip.detect import DetectOptions, Detector
from regionclip.encoders.text import encode_texts
from regionclip.regions.inputs import boxes_input
from regionclip.scoring.regions import score_classes
from regionclip.server.batching import MicroBatcher
from regionclip.server.computing import DetectWork, RegionWork, detecting, encoding
from regionclip.server.fetching import fetch
from regionclip.server.metrics import Metrics
from regionclip.server.problems import RequestError
from regionclip.server.reading import read_boxes, read_names, read_templates, read_upload
from regionclip.server.schemas import DetectForm, ImageForm, RegionsForm
from regionclip.server.settings import Batching, ServiceSettings
from regionclip.server.vocabularies import StoredVocabulary, VocabularyStore
from regionclip.structures import Detections, PreparedImage
from regionclip.vocabulary import Vocabulary

Result = TypeVar("Result")

ALONE = Batching(max_size=1, max_delay_seconds=0.0)
FETCH_SECONDS = 20.0
FETCHES = 8
"""Images given by their address that are worked on at a time, their files in memory."""
BATCHES_READY = 4
"""Full batches of prepared images that may wait for the model: more than one, for not all images
are of one size."""
CLOSE_SECONDS = 5.0
"""For what nobody waits for any more: servers close a service when its requests are answered."""


class Service:
    """One detector for many requests."""

    def __init__(self, detector: Detector, settings: ServiceSettings) -> None:
        """Put it together; :meth:`start` has it take requests."""
        self.detector = detector
        self.settings = settings
        self.metrics = Metrics()
        self._images = MicroBatcher(
            settings.batching, on_batch=self.metrics.batches.observe, name="images"
        )
        self.metrics.waiting.set_function(lambda: len(self._images))
        self._words = MicroBatcher(ALONE, name="words")
        self.vocabularies = VocabularyStore(detector, self._words, settings.limits)
        self._detecting, self._encoding = detecting(detector), encoding(detector)
        self.class_vocabulary = detector.parts.class_vocabulary
        # no more at a time than can be worked on: each holds a decoded image, or a long answer
        cores = usable_cores()
        decoding = settings.max_decoding or cores
        self._readers, self._writers = CapacityLimiter(decoding), CapacityLimiter(cores)
        self._fetchers, self._by_address = CapacityLimiter(FETCHES), asyncio.Semaphore(FETCHES)
        # a prepared image takes megabytes; whoever waits for room has its upload in a file
        self._room = asyncio.Semaphore(BATCHES_READY * settings.batching.max_size + decoding)
        self._beside: set[asyncio.Future[Any]] = set()
        self._has_names = False

    async def start(self) -> None:
        """Start the threads of images and words, and encode the names of requests without any.

        Raises:
            RequestError: They cannot be encoded.
        """
        self._images.start()
        self._words.start()
        if self.settings.classes is not None:
            names = read_names(list(self.settings.classes), self.settings.limits)
            found = await self.vocabularies.encoded(names, self.templates(None))
            self.class_vocabulary = found.vocabulary
        self._has_names = True

    @property
    def is_ready(self) -> bool:
        """Whether requests are taken."""
        return self._has_names and self._images.is_running and self._words.is_running

    async def close(self) -> bool:
        """Stop, within :data:`CLOSE_SECONDS`.

        Returns:
            Whether all that was taken is answered and no thread computes any more.
        """
        is_answered = self.metrics.num_in_flight == 0
        closing = (
            to_thread.run_sync(part.close, CLOSE_SECONDS) for part in (self._images, self._words)
        )
        have_ended = await asyncio.gather(*closing)
        return is_answered and all(have_ended) and not self._beside

    def templates(self, asked: str | Sequence[str] | None) -> tuple[str, ...]:
        """Prompts: those asked for, or the model's.

        Raises:
            RequestError: They cannot be used.
        """
        own = self.detector.parts.templates
        return read_templates(own if asked is None else asked, self.settings.limits)

    async def keep_vocabulary(
        self, names: Sequence[str], templates: str | Sequence[str] | None
    ) -> StoredVocabulary:
        """Encode names once, for requests to come.

        Raises:
            RequestError: They cannot be used, or there is no room.
        """
        checked = read_names(list(names), self.settings.limits)
        return await self.vocabularies.keep(checked, self.templates(templates))

    async def detect(self, form: DetectForm) -> tuple[tuple[int, int], Detections]:
        """Detect in one image, together with those of other requests.

        Returns:
            Height and width of the image, and what was found.

        Raises:
            RequestError: The request cannot be answered.
        """
        vocabulary = await self._vocabulary(form)
        if vocabulary is None:
            raise RequestError(400, "classes: name some, as in 'cat, remote control'")
        options = self._options(form)
        async with self._image(form) as image:
            work = DetectWork(image, vocabulary, options)
            future = self._images.submit(self._detecting, work, group=work.group)
            return image.original_size_hw, await asyncio.wrap_future(future)

    async def regions(
        self, form: RegionsForm
    ) -> tuple[tuple[int, int], Tensor, list[list[tuple[str, float]]]]:
        """Vectors ``(R, D)`` of regions, and their best names if any are asked for.

        Returns:
            Height and width of the image, the vectors, and per region names with scores.

        Raises:
            RequestError: The request cannot be answered.
        """
        boxes = read_boxes(form.boxes, self.settings.limits)
        asked = form.classes is not None or form.vocabulary is not None
        vocabulary = await self._vocabulary(form) if asked else None
        async with self._image(form) as image:
            size_hw = image.original_size_hw
            try:
                work = RegionWork(image, boxes_input(boxes, image))
            except ValueError as error:
                raise RequestError(400, str(error)) from error
            future = self._images.submit(self._encoding, work, group=work.group)
            vectors = await asyncio.wrap_future(future)
        if vocabulary is None:
            return size_hw, vectors, [[] for _ in vectors]
        temperature = self.detector.parts.temperature
        named = partial(_named, vectors, vocabulary, temperature=temperature, count=form.top_k)
        return size_hw, vectors, await self._aside(named, self._writers)

    async def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Vectors ``(N, D)`` of texts as they are.

        Raises:
            RequestError: The model has no text tower.
        """
        future = self._words.submit(self._encode_texts, tuple(texts), size=len(texts))
        try:
            return await asyncio.wrap_future(future)
        except ValueError as error:
            raise RequestError(400, str(error)) from error

    async def written(self, build: Callable[[], BaseModel]) -> Response:
        """An answer as JSON, made beside the event loop: a thousand vectors take a while."""
        content = await self._aside(lambda: build().model_dump_json(), self._writers)
        return Response(content, media_type="application/json")

    async def _aside(self, function: Callable[[], Result], limiter: CapacityLimiter) -> Result:
        """Call a function in a thread.

        Who gives up has its answer at once; its place is free when the thread is done, not before.
        """
        running = asyncio.ensure_future(to_thread.run_sync(function, limiter=limiter))
        self._beside.add(running)
        running.add_done_callback(self._beside.discard)
        return await asyncio.shield(running)

    def _encode_texts(self, asked: Sequence[tuple[str, ...]]) -> list[Tensor]:
        encoder, go_on = self.detector.parts.encoder, self.vocabularies.go_on
        return [encode_texts(encoder, texts, progress=go_on) for texts in asked]

    async def _vocabulary(self, form: ImageForm) -> Vocabulary | None:
        """What a request is to be named with; ``None`` if nobody said."""
        if form.vocabulary is not None and form.classes is not None:
            raise RequestError(400, "classes and vocabulary are both given; leave one out")
        if form.vocabulary is not None:
            return self.vocabularies.get(form.vocabulary).vocabulary
        if form.classes is None:
            return self.class_vocabulary
        names = read_names(form.classes, self.settings.limits)
        return (await self.vocabularies.encoded(names, self.templates(None))).vocabulary

    def _options(self, form: DetectForm) -> DetectOptions:
        """The model's options with those that a request brings."""
        asked = {
            "min_score": form.min_score,
            "nms_iou": form.nms_iou,
            "max_detections": form.max_detections,
        }
        own = self.detector.defaults
        given = {name: value for name, value in asked.items() if value is not None}
        selection = replace(own.selection, **given)
        return replace(own, selection=selection, with_features=form.vectors)

    @asynccontextmanager
    async def _image(self, form: ImageForm) -> AsyncIterator[PreparedImage]:
        """The image of a request, decoded beside the model's thread, while there is room for it."""
        if (form.image is None) == (form.image_url is None):
            raise RequestError(400, "image: send one image file, as a part called image of a form")
        async with AsyncExitStack() as held:
            if form.image is not None:
                file = form.image.file
            else:
                # before there is room: a host that is slow holds up none but its own kind
                await held.enter_async_context(self._by_address)
                file = BytesIO(await self._aside(partial(self._fetch, form), self._fetchers))
            await held.enter_async_context(self._room)
            yield await self._aside(
                lambda: read_upload(file.read(), self.detector, self.settings.limits), self._readers
            )

    def _fetch(self, form: ImageForm) -> bytes:
        limits = self.settings.limits
        return fetch(
            str(form.image_url),
            hosts=self.settings.url_hosts,
            max_bytes=limits.max_body_bytes,
            timeout_seconds=min(FETCH_SECONDS, limits.timeout_seconds),
        )


def usable_cores() -> int:
    """Processor cores that this process may use, where the system tells; else all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _named(
    vectors: Tensor, vocabulary: Vocabulary, *, temperature: float, count: int
) -> list[list[tuple[str, float]]]:
    """Per row of ``vectors`` ``(R, D)``, the best names with their scores."""
    names = vocabulary.names
    scores = score_classes(vectors, vocabulary.embeddings, temperature=temperature)
    values, labels = scores.topk(min(count, len(names)), dim=1)
    return [
        [(names[int(label)], float(value)) for label, value in zip(*row, strict=True)]
        for row in zip(labels.tolist(), values.tolist(), strict=True)
    ]
