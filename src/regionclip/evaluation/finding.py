"""A detector over a data set: what is found in each image, for a protocol to judge."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from regionclip.concepts.class_names import plain_name
from regionclip.data.datasets import Dataset, Member, Sample
from regionclip.data.images import ImageReadError
from regionclip.data.loading import Prepare, prepared_batches
from regionclip.data.sources import NamedSource
from regionclip.detect import DetectOptions, Detector
from regionclip.regions.inputs import listed_boxes_input
from regionclip.scoring.cosine import class_scores
from regionclip.scoring.regions import score_classes
from regionclip.structures import Detections, ImageSource, PreparedImage, Proposals
from regionclip.vocabulary import Vocabulary

from .proposals import OBJECT
from .region_accuracy import LVIS_RULES, RANKS

NUM_RANKS = max(RANKS)
"""Best classes of a true box that are always kept, for top-5 accuracy."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """What looks for what.

    Attributes:
        detector: Looks.
        vocabulary: Class names and their vectors; ``None`` for boxes without a class.
        options: Scoring and selection.
    """

    detector: Detector
    vocabulary: Vocabulary | None
    options: DetectOptions

    @property
    def names(self) -> Vocabulary:
        """The vocabulary.

        Raises:
            ValueError: There is none.
        """
        if self.vocabulary is None:
            raise ValueError("objects are found by name; give a vocabulary")
        return self.vocabulary


Pair = tuple[Sample, PreparedImage]
Find = Callable[[Search, Sequence[Pair]], list[Detections]]
"""Finds something in a batch of images, whose annotations it may look at."""
Preparation = Callable[[Detector, ImageSource, str], PreparedImage]
"""Reads an image of a name and brings it to the size that is looked at."""


@dataclass(frozen=True, slots=True)
class OtherwisePrepared:
    """A :data:`Find` that looks at images of another size than the detector finds objects at.

    Attributes:
        find: Looks at them.
        prepare: Reads them. Called in several threads at once.
    """

    find: Find
    prepare: Preparation

    def __call__(self, search: Search, pairs: Sequence[Pair]) -> list[Detections]:
        """What :attr:`find` finds."""
        return self.find(search, pairs)


def preparation_of(find: Find, detector: Detector) -> Prepare:
    """How images are read for a way of finding things in them: as the detector does, or its own."""
    if isinstance(find, OtherwisePrepared):
        return partial(find.prepare, detector)
    return detector.prepare


def name_of(find: Find) -> str:
    """What journals call a way of finding things."""
    if isinstance(find, OtherwisePrepared):
        return name_of(find.find)
    return str(getattr(find, "__name__", "own"))


def detect_dataset(
    detector: Detector,
    dataset: Dataset,
    vocabulary: Vocabulary | None,
    options: DetectOptions | None = None,
    *,
    find: Find | None = None,
    batch_size: int = 1,
    num_workers: int = 4,
    unreadable: Callable[[int, ImageReadError], None] | None = None,
) -> Iterator[Detections]:
    """Detect in every image of a data set; images are read ahead in the background.

    Args:
        detector: With proposals of its own, unless ``find`` takes boxes from elsewhere.
        dataset: Its images.
        vocabulary: What to look for, as a rule :func:`data_vocabulary`; ``None`` for boxes without
            a class.
        options: Scoring and selection; by default the detector's.
        find: :func:`find_objects` by default; or :func:`find_in_true_boxes`,
            :func:`name_true_boxes`, :func:`classify_true_boxes`, :func:`find_proposals`, or your
            own.
        batch_size: Images computed at a time.
        num_workers: Threads that read and resize.
        unreadable: Told the index of an image that cannot be read, and why; by default that is
            logged. Such an image counts as one in which nothing was found.

    Yields:
        One per image, in the data set's order.

    Raises:
        ValueError: The vocabulary is of another encoder, or the model lacks what is asked for.
    """
    find = find_objects if find is None else find
    search = Search(detector, vocabulary, detector.defaults if options is None else options)
    names = (OBJECT,) if vocabulary is None else vocabulary.names
    batches = prepared_batches(
        map(source_of, dataset),
        preparation_of(find, detector),
        batch_size=batch_size,
        num_workers=num_workers,
    )
    start = 0
    with closing(batches):
        for batch in batches:
            samples = dataset[start : start + len(batch)]
            pairs = [
                (sample, image)
                for sample, (_, image) in zip(samples, batch, strict=True)
                if isinstance(image, PreparedImage)
            ]
            results = iter(find(search, pairs) if pairs else [])
            for index, (_, image) in enumerate(batch, start):
                if isinstance(image, PreparedImage):
                    yield next(results)
                    continue
                if unreadable is None:
                    _log.warning("%s", image)
                else:
                    unreadable(index, image)
                yield nothing_found(names)
            start += len(batch)


def find_objects(search: Search, pairs: Sequence[Pair]) -> list[Detections]:
    """The detector's own boxes and their names."""
    images = [image for _, image in pairs]
    return search.detector.detect_prepared(images, search.names, search.options)


def find_in_true_boxes(search: Search, pairs: Sequence[Pair]) -> list[Detections]:
    """Detections as with any proposals, where the annotated boxes are the proposals.

    Crowds and boxes without area are not given.

    Source:
        microsoft/RegionCLIP@4b8513b ``test_zeroshot_inference.sh``, ``CROP_REGION_TYPE GT``.
    """
    images = [image for _, image in pairs]
    boxes = [Proposals(listed_boxes_input(true_boxes(sample), image)) for sample, image in pairs]
    return search.detector.detect_prepared(images, search.names, search.options, proposals=boxes)


@torch.inference_mode()
def name_true_boxes(search: Search, pairs: Sequence[Pair]) -> list[Detections]:
    """Class scores of the annotated boxes, neither suppressed nor limited in number.

    Every box keeps its :data:`NUM_RANKS` best classes, and all that any rule of RegionCLIP's could
    select, whatever the options say. Boxes are the annotations' own, to the last bit.
    """
    search.names.check_encoder(search.detector.encoder_id)
    view = search.detector.parts.regions.view([image for _, image in pairs])
    return [
        _named(search, true_boxes(sample), view.of(index).features, image)
        for index, (sample, image) in enumerate(pairs)
    ]


def classify_true_boxes(search: Search, pairs: Sequence[Pair]) -> list[Detections]:
    """The best pairs of an annotated box and a class, whatever the options say.

    Scores are the softmax over the classes alone; nothing is suppressed. As many pairs are kept as
    any rule of :func:`~.given_boxes.evaluate_given_boxes` looks at.
    """
    names, found = search.names, []
    for boxes, scores in true_boxes_scored(search, pairs):
        flat = scores.flatten()
        best = flat.argsort(descending=True, stable=True)[: LVIS_RULES.max_detections]
        box, label = best // len(names), best % len(names)
        found.append(Detections(boxes[box], flat[best], label, names.names))
    return found


@torch.inference_mode()
def true_boxes_scored(
    search: Search, pairs: Sequence[Pair]
) -> list[tuple[Float[Tensor, "_ 4"], Float[Tensor, "_ C"]]]:
    """Per image, :func:`true_boxes` and their softmax over the classes alone, on the CPU."""
    search.names.check_encoder(search.detector.encoder_id)
    parts = search.detector.parts
    view = parts.regions.view([image for _, image in pairs])
    scored = []
    for index, (sample, image) in enumerate(pairs):
        boxes = true_boxes(sample)
        vectors = view.of(index).features(listed_boxes_input(boxes, image))
        rows = search.names.embeddings.to(vectors.device)
        scores = class_scores(vectors, rows, temperature=parts.temperature).cpu()
        scored.append((boxes, scores))
    return scored


@torch.inference_mode()
def find_proposals(search: Search, pairs: Sequence[Pair]) -> list[Detections]:
    """The detector's proposals, best first, in pixels of the original image, without a class."""
    images = [image for _, image in pairs]
    found = []
    for image, proposals in zip(images, search.detector.propose(images), strict=True):
        objectness = proposals.objectness
        # in float64: objectness near 1 stays apart
        scores = torch.ones(len(proposals)) if objectness is None else objectness.double().sigmoid()
        boxes = proposals.boxes.cpu() * image.scale_xyxy
        labels = torch.zeros(len(boxes), dtype=torch.int64)
        found.append(Detections(boxes, scores.cpu(), labels, (OBJECT,)))
    return found


def data_vocabulary(detector: Detector, dataset: Dataset) -> Vocabulary:
    """The data set's classes in the detector's space.

    A model that carries vectors of all of them, as fine-tuned ones do, uses those; else the names
    are encoded, underscores read as blanks.

    Raises:
        ValueError: The model carries neither such vectors nor a text tower.
    """
    carried = carried_vocabulary(detector, dataset.class_names)
    return detector.vocabulary(prompt_names(dataset.class_names)) if carried is None else carried


def carried_vocabulary(detector: Detector, names: Sequence[str]) -> Vocabulary | None:
    """The rows of these names among the classes that the model carries, if it has all of them."""
    own = detector.parts.class_vocabulary
    if own is None:
        return None
    rows = {plain_name(name): row for row, name in enumerate(own.names)}
    if not all(plain_name(name) in rows for name in names):
        return None
    chosen = [rows[plain_name(name)] for name in names]
    return Vocabulary(tuple(names), own.embeddings[chosen], own.templates, own.encoder_id)


def with_others(names: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    """Names, and after them those of ``others`` that are not among them, however written."""
    known = {plain_name(name) for name in names}
    return (*names, *(name for name in others if plain_name(name) not in known))


def only_first(found: Detections, count: int) -> Detections:
    """Detections of the first ``count`` classes; the others took part, and are not judged."""
    kept = found.select(found.labels < count)
    return replace(kept, class_names=found.class_names[:count])


def prompt_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names as they are put into prompts: underscores are blanks, as in LVIS's ``alarm_clock``."""
    return tuple(" ".join(name.replace("_", " ").split()) for name in names)


def true_boxes(sample: Sample) -> Float[Tensor, "R 4"]:
    """Annotated boxes with an area, without crowds."""
    return sample.objects.boxes[true_rows(sample)]


def true_rows(sample: Sample) -> Bool[Tensor, " N"]:
    """Which of the annotated objects :func:`true_boxes` gives."""
    boxes = sample.objects.boxes
    has_area = boxes.isfinite().all(dim=1) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    return has_area & ~sample.objects.is_crowd


def nothing_found(class_names: Sequence[str]) -> Detections:
    """Detections of an image in which nothing was found."""
    return Detections(
        torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), tuple(class_names)
    )


def _named(
    search: Search,
    boxes: Float[Tensor, "R 4"],
    embed: Callable[[Tensor], Tensor],
    image: PreparedImage,
) -> Detections:
    if len(boxes) == 0:
        return nothing_found(search.names.names)
    scores = score_classes(
        embed(listed_boxes_input(boxes, image)),
        search.names.embeddings,
        temperature=search.detector.parts.temperature,
    ).cpu()
    is_kept = scores > LVIS_RULES.min_score
    best = scores.topk(min(NUM_RANKS, scores.shape[1]), dim=1).indices
    is_kept.scatter_(1, best, True)
    rows, labels = is_kept.nonzero().unbind(1)
    return Detections(boxes[rows], scores[rows, labels], labels, search.names.names)


def source_of(sample: Sample) -> NamedSource:
    """The image as the loader takes it; for one in an archive, the archive is its file."""
    file = sample.image.archive if isinstance(sample.image, Member) else sample.image
    return NamedSource(sample.name, file, sample.image, sample.name)
