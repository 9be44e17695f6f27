"""Pascal VOC's average precision: 11 points (to 2009) or all points (from 2010).

Boxes are edges: ``xmin - 1, ymin - 1, xmax, ymax`` of a VOC xml, whose numbers are pixels from 1
that belong to the object. VOC adds 1 to differences of such numbers; between edges that is the
plain area, so nothing is added here.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from torchvision.ops import box_iou

from regionclip.data.datasets import Dataset, Objects, Sample
from regionclip.structures import Detections

from .counts import boxes_by_class, split_counts
from .curves import paired
from .report import ClassFigures, EvaluationReport, mean_of

MIN_IOU = 0.5
"""A detection must overlap an object by more. Source: Everingham et al., IJCV 2010, sec. 4.2."""
RECALL_STEPS = 10
"""Of the older rule: 11 recalls from 0 to 1. Source: Everingham et al., IJCV 2010, sec. 4.2."""

Interpolation = Callable[["Verdicts"], float]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What became of a class's detections, best first, those that do not count left out.

    Attributes:
        is_hit: Whether each found an object that no better one had found.
        num_objects: Objects that could be found.
    """

    is_hit: np.ndarray
    num_objects: int

    @property
    def precision(self) -> np.ndarray:
        """Share of hits among the best 1, 2, 3, ... detections."""
        return np.cumsum(self.is_hit) / np.arange(1, len(self.is_hit) + 1)


def evaluate_voc07(dataset: Dataset, detections: Iterable[Detections]) -> EvaluationReport:
    """Mean AP50 by the rule of VOC 2007: the best precision at 11 recalls.

    Args:
        dataset: What is there; images without boxes belong to it.
        detections: One per image, in the data set's order, naming its classes. Read once.

    Raises:
        ValueError: The counts or the classes differ.
    """
    return _evaluate(
        dataset, detections, "voc07", eleven_point_ap, "the best precision at 11 recalls (2007)"
    )


def evaluate_voc12(dataset: Dataset, detections: Iterable[Detections]) -> EvaluationReport:
    """Mean AP50 by the rule from VOC 2010 on: the area below the best precision at every recall.

    Args:
        dataset: What is there; images without boxes belong to it.
        detections: One per image, in the data set's order, naming its classes. Read once.

    Raises:
        ValueError: The counts or the classes differ.
    """
    return _evaluate(
        dataset, detections, "voc12", all_point_ap, "the area below precision over recall (2010 on)"
    )


def eleven_point_ap(verdicts: Verdicts) -> float:
    """Mean over recalls 0, 0.1, ..., 1 of the best precision there or beyond; NaN without objects.

    Recalls are compared as whole numbers. Where a recall is exactly 0.3, 0.6 or 0.7, programs that
    compare with ``arange(0, 1.1, 0.1)`` miss it by rounding.

    Source:
        Everingham et al., IJCV 2010, sec. 4.2.
    """
    if verdicts.num_objects == 0:
        return float("nan")
    num_hits, precision = np.cumsum(verdicts.is_hit), verdicts.precision
    points = [
        precision[num_hits * RECALL_STEPS >= step * verdicts.num_objects].max(initial=0.0)
        for step in range(RECALL_STEPS + 1)
    ]
    return float(np.mean(points))


def all_point_ap(verdicts: Verdicts) -> float:
    """Sum over the hits of the best precision there or beyond, by objects; NaN without objects.

    Source:
        VOC 2012 development kit, sec. 3.4.1: precision made to decrease, then the area below it.
    """
    if verdicts.num_objects == 0:
        return float("nan")
    best_beyond = np.maximum.accumulate(verdicts.precision[::-1])[::-1]
    return float(best_beyond[verdicts.is_hit].sum() / verdicts.num_objects)


def voc_verdicts(dataset: Dataset, detections: Iterable[Detections]) -> list[Verdicts]:
    """Match detections with objects, class by class; see :func:`_judge`.

    Args:
        dataset: What is there.
        detections: One per image, in the data set's order, naming its classes. Read once.

    Returns:
        One per class.

    Raises:
        ValueError: The counts or the classes differ.
    """
    scores: defaultdict[int, list[np.ndarray]] = defaultdict(list)
    verdicts: defaultdict[int, list[np.ndarray]] = defaultdict(list)
    for sample, found in paired(dataset, detections):
        for label, own_scores, own_verdicts in _judge(sample, found):
            scores[label].append(own_scores)
            verdicts[label].append(own_verdicts)
    by_label = []
    for label, num_objects in enumerate(boxes_by_class(dataset, positive_labels)):
        if not scores[label]:
            by_label.append(Verdicts(np.zeros(0, dtype=bool), num_objects))
            continue
        order = np.argsort(-np.concatenate(scores[label]), kind="stable")
        ordered = np.concatenate(verdicts[label])[order]
        by_label.append(Verdicts(ordered[ordered != NEUTRAL] == HIT, num_objects))
    return by_label


def positive_labels(objects: Objects) -> list[int]:
    """Labels of the objects that count: neither difficult nor a crowd."""
    return objects.labels[~(objects.is_difficult | objects.is_crowd)].tolist()


MISS, HIT, NEUTRAL = 0, 1, 2


def _judge(sample: Sample, found: Detections) -> Iterable[tuple[int, np.ndarray, np.ndarray]]:
    """Label, scores (best first) and verdicts of an image's detections, class by class.

    Each detection looks at the object of its class that it overlaps most: if that is difficult or a
    crowd it does not count, if a better detection had it already it is a miss. (COCO would look at
    the next object instead.)

    Source:
        VOC 2012 development kit, ``VOCevaldet.m``; facebookresearch/detectron2@e3ee0ab
        ``detectron2/evaluation/pascal_voc_evaluation.py:voc_eval``.
    """
    objects = sample.objects
    overlaps = box_iou(found.boxes.double(), objects.boxes.double()).numpy()
    does_not_count = (objects.is_difficult | objects.is_crowd).numpy()
    object_labels, labels = objects.labels.numpy(), found.labels.numpy()
    all_scores = found.scores.double().numpy()
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(-all_scores[rows], kind="stable")]
        candidates = np.flatnonzero(object_labels == label)
        verdicts = np.full(len(rows), MISS)
        is_taken = np.zeros(len(candidates), dtype=bool)
        for place, row in enumerate(rows if len(candidates) else ()):
            own = overlaps[row, candidates]
            nearest = int(own.argmax())
            if not own[nearest] > MIN_IOU:
                continue
            if does_not_count[candidates[nearest]]:
                verdicts[place] = NEUTRAL
            elif not is_taken[nearest]:
                verdicts[place], is_taken[nearest] = HIT, True
        yield int(label), all_scores[rows], verdicts


def _evaluate(
    dataset: Dataset,
    detections: Iterable[Detections],
    protocol: str,
    average_precision: Interpolation,
    rule: str,
) -> EvaluationReport:
    verdicts = voc_verdicts(dataset, detections)
    values = [average_precision(each) for each in verdicts]
    classes = tuple(
        ClassFigures(category.name, category.split, each.num_objects, {"ap50": value})
        for category, each, value in zip(dataset.categories, verdicts, values, strict=True)
    )
    sentence = (
        f"Pascal VOC: AP at IoU above 0.5, {rule}, mean over the "
        f"{sum(each.num_objects > 0 for each in verdicts)} classes that have objects; difficult "
        "objects neither count nor punish, a second detection of an object is a miss, and all "
        "detections count."
    )
    return EvaluationReport(
        protocol=protocol,
        sentence=sentence,
        source=dataset.source,
        num_images=len(dataset),
        splits=split_counts(dataset, labels_of=positive_labels),
        metrics={"ap50": mean_of(values)},
        classes=classes,
    )
