"""What the demo computes: a picture and what was asked for, to what is shown. No web page here."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou, nms

from regionclip.detect import Detector
from regionclip.proposals.grid import SlidingGrid
from regionclip.proposals.proposer import NovelClasses
from regionclip.scoring.regions import score_classes
from regionclip.structures import Detections, Proposals
from regionclip.vocabulary import Vocabulary

from .inputs import Picture, checked_box

SAME_PLACE_IOU = 0.5
"""Overlap above which two regions of a picture show the same thing."""
KEPT_INDEXES = 512
"""Pictures whose region vectors stay in memory: half a megabyte each with 100 regions of RN50."""
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
def detect(detector: Detector, picture: Picture, request: Request) -> Found:
    """Find the names in one picture.

    Raises:
        ValueError: The model cannot do what is asked for; the message says what it can.
    """
    vocabulary = detector.vocabulary(
        (*request.names, *request.negatives), templates=request.templates
    )
    image = detector.prepare(picture.path)
    own = None
    if detector.parts.proposer is not None:
        own = _first(detector.propose([image])[0], request.num_regions)
    defaults = detector.defaults
    options = replace(
        defaults,
        selection=replace(
            defaults.selection,
            min_score=request.min_score,
            nms_iou=request.nms_iou,
            # negative names take places too, and are counted out afterwards
            max_detections=request.max_detections * (4 if request.negatives else 1),
        ),
        with_features=True,
        with_masks=False,
        novel=defaults.novel if own is None else NovelClasses(),
    )
    found = detector.detect_prepared(
        [image], vocabulary, options, proposals=None if own is None else [own]
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


class Indexes:
    """Region vectors of pictures, computed once; the longest unused go first."""

    def __init__(self, *, most: int = KEPT_INDEXES) -> None:
        """Keep those of ``most`` pictures."""
        self._most = most
        self._kept: OrderedDict[tuple[int, str, int], RegionIndex] = OrderedDict()

    def of(self, detector: Detector, picture: Picture, num_regions: int) -> RegionIndex:
        """The regions of a picture, at most ``num_regions``, the best first."""
        # detectors live as long as the demo, so that their ids name them
        key = (id(detector), str(picture.path), num_regions)
        if key not in self._kept:
            self._kept[key] = index_regions(detector, picture, num_regions)
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return self._kept[key]


@torch.inference_mode()
def index_regions(detector: Detector, picture: Picture, num_regions: int) -> RegionIndex:
    """Propose regions of a picture and embed them."""
    image = detector.prepare(picture.path)
    # CORA's own boxes follow class names, and here are none
    proposer = detector.parts.proposer or SlidingGrid()
    proposals = _first(proposer.propose([image])[0], num_regions)
    vectors = detector.parts.regions.view([image]).of(0).features(proposals.boxes).cpu()
    boxes = proposals.boxes.cpu() * image.scale_xyxy
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


def name_region(
    detector: Detector,
    picture: Picture,
    box: Sequence[float | int],
    names: Sequence[str],
    templates: Sequence[str],
) -> list[tuple[str, float]]:
    """Score one drawn box against names, best first; what is left to one is "none of these".

    Raises:
        InputError: The box is too small.
    """
    regions = torch.tensor([checked_box(box, picture)])
    vocabulary = detector.vocabulary(tuple(names), templates=tuple(templates))
    scores = detector.classify_regions(picture.path, regions, vocabulary)[0]
    order = scores.argsort(descending=True, stable=True).tolist()
    return [(vocabulary.names[row], float(scores[row])) for row in order]


def box_vector(
    detector: Detector, picture: Picture, box: Sequence[float | int]
) -> Float[Tensor, " D"]:
    """The vector of one drawn box, of length one.

    Raises:
        InputError: The box is too small.
    """
    regions = torch.tensor([checked_box(box, picture)])
    return F.normalize(detector.encode_regions(picture.path, regions).float(), dim=1)[0]


def find_alike(
    detector: Detector,
    pictures: Sequence[Picture],
    vector: Float[Tensor, " D"],
    *,
    num_regions: int,
    indexes: Indexes,
    step: Step = lambda share, text: None,
) -> list[Place]:
    """Regions of pictures by their likeness to a vector, best first, each place once.

    Args:
        detector: Embeds regions.
        pictures: Where to look.
        vector: Of length one: a region's, or a text's.
        num_regions: Most of each picture.
        indexes: Remembers regions.
        step: Told of each picture.
    """
    places: list[Place] = []
    for number, picture in enumerate(pictures):
        step(number / len(pictures), f"looking through {picture.name}")
        index = indexes.of(detector, picture, num_regions)
        similarity = index.vectors @ vector
        for row in nms(index.boxes, similarity, SAME_PLACE_IOU).tolist():
            x0, y0, x1, y1 = index.boxes[row].tolist()
            places.append(Place(number, (x0, y0, x1, y1), float(similarity[row])))
    return sorted(places, key=lambda each: -each.similarity)


def elsewhere(places: Sequence[Place], picture: int, box: Sequence[float | int]) -> list[Place]:
    """Places other than a box of a picture itself."""
    own = torch.tensor([list(box)], dtype=torch.float32)
    return [
        place
        for place in places
        if place.picture != picture
        or float(box_iou(own, torch.tensor([place.box]))) < SAME_PLACE_IOU
    ]


def _first(proposals: Proposals, count: int) -> Proposals:
    return proposals.select(torch.arange(min(count, len(proposals))))
