"""What the demo computes: a picture and what was asked for, to what is shown. No web page here."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou, nms

from regionclip.detect import Detector
from regionclip.proposals.grid import SlidingGrid
from regionclip.proposals.proposer import NovelClasses
from regionclip.regions.inputs import boxes_input
from regionclip.scoring.regions import score_classes
from regionclip.structures import Detections, PreparedImage, Proposals
from regionclip.vocabulary import Vocabulary

from .pictures import Picture

SAME_PLACE_IOU = 0.5
"""Overlap above which two regions of a picture show the same thing."""
KEPT_BYTES = 256 * 2**20
"""Of region vectors that stay in memory: those of 64 pictures with 1000 regions of RN50 each."""
MOST_PAIRS = 20_000
"""Of a region and a name that compete for places: their vectors take 80 megabytes with RN50."""
Step = Callable[[float, str], None]
"""Told how far things are, from 0 to 1, and what is being done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What to look for, and how.

    Attributes:
        names: Shown where found.
        negatives: Names that compete for every region and are not shown.
        templates: Prompts that both are put into.
        num_regions: Most proposals that are looked at, the best first.
        min_score: In [0, 1].
        nms_iou: Overlap above which the weaker of two boxes of a name goes.
        max_detections: Most boxes shown.
        one_name_per_place: Of overlapping boxes, whatever their names, only the best; a negative
            name that wins a place empties it.
    """

    names: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    templates: tuple[str, ...] = ("a photo of a {}.",)
    num_regions: int = 300
    min_score: float = 0.3
    nms_iou: float = 0.5
    max_detections: int = 100
    one_name_per_place: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """What :func:`detect` found.

    Attributes:
        detections: With region vectors; labels index ``request.names``.
        probabilities: Class scores of each detection, negative names included.
        num_proposals: How many regions were looked at; ``None`` for a model that finds boxes for
            the names alone.
    """

    detections: Detections
    probabilities: Float[Tensor, "N C"]
    num_proposals: int | None


@torch.inference_mode()
def detect(
    detector: Detector, picture: Picture, request: Request, *, image: Image.Image | None = None
) -> Found:
    """Find the names in one picture.

    Args:
        detector: Finds.
        picture: Where.
        request: What, and how.
        image: The picture, if it is decoded already.

    Raises:
        ValueError: The model cannot do what is asked for; the message says what it can.
    """
    vocabulary = detector.vocabulary(
        (*request.names, *request.negatives), templates=request.templates
    )
    prepared = _prepared(detector, picture, image)
    own = None
    if detector.parts.proposer is not None:
        own = best_of(detector.propose([prepared])[0], request.num_regions)
    # what loses its place, or has a negative name, is counted out before the most are taken
    competes = request.one_name_per_place or len(request.negatives) > 0
    defaults = detector.defaults
    options = replace(
        defaults,
        selection=replace(
            defaults.selection,
            min_score=request.min_score,
            nms_iou=request.nms_iou,
            max_detections=MOST_PAIRS if competes else request.max_detections,
        ),
        with_features=True,
        with_masks=False,
        novel=defaults.novel if own is None else NovelClasses(),
    )
    found = detector.detect_prepared(
        [prepared], vocabulary, options, proposals=None if own is None else [own]
    )[0]
    if request.one_name_per_place:
        found = found.select(nms(found.boxes, found.scores, SAME_PLACE_IOU))
    found = found.select((found.labels < len(request.names)).nonzero()[:, 0])
    found = found.select(range(min(len(found), request.max_detections)))
    found = replace(found, class_names=request.names, image=picture.path)
    return Found(
        found,
        _probabilities(detector, found, vocabulary),
        None if own is None else len(own),
    )


def only_names_found(detections: Detections) -> Detections:
    """The same with labels of its own names alone: colours go by label, and neighbours' differ."""
    labels, rows = detections.labels.unique(return_inverse=True)
    names = tuple(detections.class_names[label] for label in labels.tolist())
    return replace(detections, labels=rows, class_names=names)


def _probabilities(
    detector: Detector, found: Detections, vocabulary: Vocabulary
) -> Float[Tensor, "N C"]:
    features = found.features
    if features is None:
        return torch.zeros(len(found), len(vocabulary))
    return score_classes(
        features.float(), vocabulary.embeddings, temperature=detector.parts.temperature
    )


@dataclass(frozen=True, slots=True)
class RegionIndex:
    """The regions of a picture and what they look like.

    Attributes:
        boxes: ``xyxy`` in pixels of the picture.
        vectors: Of length one.
    """

    boxes: Float[Tensor, "R 4"]
    vectors: Float[Tensor, "R D"]

    @property
    def num_bytes(self) -> int:
        """Of memory."""
        return self.boxes.nbytes + self.vectors.nbytes


class Indexes:
    """Region vectors of pictures, computed once; the longest unused go first.

    Those of pictures whose files are deleted go, too.
    """

    def __init__(self, *, most_bytes: int = KEPT_BYTES) -> None:
        """Keep what takes ``most_bytes`` of memory, and the last one in any case."""
        self._most_bytes = most_bytes
        self._kept: OrderedDict[tuple[int, Picture, int], RegionIndex] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def of(
        self,
        detector: Detector,
        picture: Picture,
        num_regions: int,
        *,
        prepared: PreparedImage | None = None,
    ) -> RegionIndex:
        """The regions of a picture.

        Args:
            detector: Proposes and embeds them.
            picture: Whose.
            num_regions: At most, the best first.
            prepared: The picture as the detector sees it, if it is read already.
        """
        # detectors live as long as the demo, so that their ids name them
        key = (id(detector), picture, num_regions)
        if key not in self._kept:
            prepared = prepared or detector.prepare(picture.path)
            self._kept[key] = index_regions(detector, prepared, num_regions)
            self._drop(but=key)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _drop(self, but: tuple[int, Picture, int]) -> None:
        for key in [each for each in self._kept if not each[1].path.exists()]:
            del self._kept[key]
        taken = sum(each.num_bytes for each in self._kept.values())
        for key in [each for each in self._kept if each != but]:
            if taken <= self._most_bytes:
                return
            taken -= self._kept.pop(key).num_bytes


@torch.inference_mode()
def index_regions(detector: Detector, prepared: PreparedImage, num_regions: int) -> RegionIndex:
    """Propose regions of a prepared picture and embed them."""
    # CORA's own boxes follow class names, and here are none
    proposer = detector.parts.proposer or SlidingGrid()
    proposals = best_of(proposer.propose([prepared])[0], num_regions)
    vectors = detector.parts.regions.view([prepared]).of(0).features(proposals.boxes).cpu()
    boxes = proposals.boxes.cpu() * prepared.scale_xyxy
    return RegionIndex(boxes, F.normalize(vectors.float(), dim=1))


@dataclass(frozen=True, slots=True)
class Place:
    """A region somewhere among the pictures.

    Attributes:
        picture: Its place in the list of pictures.
        box: ``xyxy`` in pixels of that picture.
        similarity: Cosine with what was looked for, in [-1, 1].
    """

    picture: int
    box: tuple[float, float, float, float]
    similarity: float


@dataclass(frozen=True, slots=True)
class DrawnRegion:
    """A box that was drawn on one of the pictures.

    Attributes:
        place: Of the picture among the pictures.
        box: ``xyxy`` in pixels of that picture.
        prepared: The picture as the model sees it.
        vector: What is in the box, as the model's region vectors are, of any length.
    """

    place: int
    box: list[float]
    prepared: PreparedImage
    vector: Float[Tensor, " D"]

    @property
    def direction(self) -> Float[Tensor, " D"]:
        """The vector, of length one."""
        return F.normalize(self.vector.float(), dim=0)


@torch.inference_mode()
def look_into(
    detector: Detector, pictures: Sequence[Picture], place: int, box: list[float]
) -> DrawnRegion:
    """Read a picture, and embed a box on it.

    Args:
        detector: Embeds it.
        pictures: All.
        place: Of the one with the box.
        box: ``xyxy`` in pixels of that picture, as ``pictures.checked_box`` returns it.
    """
    prepared = detector.prepare(pictures[place].path)
    boxes = boxes_input(torch.tensor([box]), prepared)
    vectors = detector.parts.regions.view([prepared]).of(0).features(boxes)
    return DrawnRegion(place, box, prepared, vectors[0].cpu())


def name_region(
    detector: Detector, region: DrawnRegion, names: Sequence[str], templates: Sequence[str]
) -> list[tuple[str, float]]:
    """Score a drawn box against names, best first; what is left to one is "none of these"."""
    vocabulary = detector.vocabulary(tuple(names), templates=tuple(templates))
    scores = score_classes(
        region.vector[None], vocabulary.embeddings, temperature=detector.parts.temperature
    )[0]
    order = scores.argsort(descending=True, stable=True).tolist()
    return [(vocabulary.names[row], float(scores[row])) for row in order]


def find_alike(
    detector: Detector,
    pictures: Sequence[Picture],
    region: DrawnRegion,
    *,
    num_regions: int,
    indexes: Indexes,
    step: Step = lambda share, text: None,
) -> list[Place]:
    """Regions of pictures by their likeness to one, best first, each place once.

    Args:
        detector: Embeds regions.
        pictures: Where to look.
        region: What is looked for.
        num_regions: Most of each picture.
        indexes: Remembers regions.
        step: Told of each picture.
    """
    places: list[Place] = []
    for number, picture in enumerate(pictures):
        step(number / len(pictures), f"looking through {picture.name}")
        prepared = region.prepared if number == region.place else None
        index = indexes.of(detector, picture, num_regions, prepared=prepared)
        similarity = index.vectors @ region.direction
        for row in nms(index.boxes, similarity, SAME_PLACE_IOU).tolist():
            x0, y0, x1, y1 = index.boxes[row].tolist()
            places.append(Place(number, (x0, y0, x1, y1), float(similarity[row])))
    return sorted(places, key=lambda each: -each.similarity)


def elsewhere(places: Sequence[Place], region: DrawnRegion) -> list[Place]:
    """Places other than a drawn box itself."""
    own = torch.tensor([region.box])
    return [
        place
        for place in places
        if place.picture != region.place
        or float(box_iou(own, torch.tensor([place.box]))) < SAME_PLACE_IOU
    ]


def best_of(proposals: Proposals, count: int) -> Proposals:
    """At most ``count`` regions: the first, which are the best.

    Where nothing says which are the best, as in a grid, they are taken evenly from all: its first
    ones would be small, and lie at the top.
    """
    if len(proposals) <= count:
        return proposals
    if proposals.objectness is not None:
        return proposals.select(torch.arange(count))
    return proposals.select(torch.linspace(0, len(proposals) - 1, count).round().long())


def _prepared(
    detector: Detector, picture: Picture, image: Image.Image | None = None
) -> PreparedImage:
    # tables of boxes know pictures by their paths
    return detector.prepare(picture.path if image is None else image, name=str(picture.path))
