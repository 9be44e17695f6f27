"""What the routes share: one detector, its thread, its words' thread, and the vocabularies."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from anyio import CapacityLimiter, to_thread
from torch import Tensor

from regionclip.detect import DetectOptions, Detector
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

ALONE = Batching(max_size=1, max_delay_seconds=0.0)
FETCH_SECONDS = 20.0


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
        # no more at a time than there are cores: each holds a decoded image
        self._readers = CapacityLimiter(os.cpu_count() or 1)

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

    @property
    def is_ready(self) -> bool:
        """Whether requests are taken."""
        return self._images.is_running and self._words.is_running

    def close(self) -> None:
        """Compute all that was taken, then stop."""
        self._images.close()
        self._words.close()

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

    async def detect(self, form: DetectForm) -> tuple[PreparedImage, Detections]:
        """Detect in one image, together with those of other requests.

        Raises:
            RequestError: The request cannot be answered.
        """
        vocabulary = await self._vocabulary(form)
        if vocabulary is None:
            raise RequestError(400, "classes: name some, as in 'cat, remote control'")
        options = self._options(form)
        image = await self._image(form)
        work = DetectWork(image, vocabulary, options)
        future = self._images.submit(self._detecting, work, group=work.group)
        return image, await asyncio.wrap_future(future)

    async def regions(
        self, form: RegionsForm
    ) -> tuple[PreparedImage, Tensor, list[list[tuple[str, float]]]]:
        """Vectors ``(R, D)`` of regions, and their best names if any are asked for.

        Raises:
            RequestError: The request cannot be answered.
        """
        boxes = read_boxes(form.boxes, self.settings.limits)
        asked = form.classes is not None or form.vocabulary is not None
        vocabulary = await self._vocabulary(form) if asked else None
        image = await self._image(form)
        work = RegionWork(image, boxes_input(boxes, image))
        future = self._images.submit(self._encoding, work, group=work.group)
        vectors = await asyncio.wrap_future(future)
        if vocabulary is None:
            return image, vectors, [[] for _ in vectors]
        temperature = self.detector.parts.temperature
        scores = score_classes(vectors, vocabulary.embeddings, temperature=temperature)
        return image, vectors, _best(scores, vocabulary.names, form.top_k)

    async def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Vectors ``(N, D)`` of texts as they are.

        Raises:
            RequestError: The model has no text tower.
        """
        future = self._words.submit(self._encode_texts, tuple(texts))
        try:
            return await asyncio.wrap_future(future)
        except ValueError as error:
            raise RequestError(400, str(error)) from error

    def _encode_texts(self, asked: Sequence[tuple[str, ...]]) -> list[Tensor]:
        return [self.detector.encode_text(texts).cpu() for texts in asked]

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

    async def _image(self, form: ImageForm) -> PreparedImage:
        """The image of a request, decoded beside the model's thread."""
        limits = self.settings.limits
        if (form.image is None) == (form.image_url is None):
            raise RequestError(400, "image: send one image file, as a part called image of a form")
        if form.image is not None:
            content = await form.image.read()
        else:
            fetched = partial(
                fetch,
                str(form.image_url),
                hosts=self.settings.url_hosts,
                max_bytes=limits.max_body_bytes,
                timeout_seconds=min(FETCH_SECONDS, limits.timeout_seconds),
            )
            content = await to_thread.run_sync(fetched)
        read = partial(read_upload, content, self.detector, limits)
        # who gives up frees its place among the readers when the thread is done, not before
        reading = asyncio.ensure_future(to_thread.run_sync(read, limiter=self._readers))
        return await asyncio.shield(reading)


def _best(scores: Tensor, names: Sequence[str], count: int) -> list[list[tuple[str, float]]]:
    """Per row of ``scores`` ``(R, C)``, the best names with their scores."""
    values, labels = scores.topk(min(count, len(names)), dim=1)
    return [
        [(names[int(label)], float(value)) for label, value in zip(*row, strict=True)]
        for row in zip(labels.tolist(), values.tolist(), strict=True)
    ]
