"""How well given regions are named, as CLIPSelf reports it: accuracy per class, then their mean."""

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regionclip.data.datasets import Dataset, Sample
from regionclip.detections.box_coder import of_areas
from regionclip.structures import Detections

from .counts import split_counts
from .curves import paired
from .report import ClassFigures, EvaluationReport, mean_of

RANKS = (1, 5)
SMALLEST_SIDE, LARGEST_SIDE = 8, 1024
"""Regions whose box has a smaller or larger area than squares of so many pixels are not asked for.

Source: wusize/CLIPSelf@1c7fe9c ``--min-size 8 --max-size 1024``.
"""
MOST_REGIONS = 100
"""Of an image; more are not asked for.

Source: wusize/CLIPSelf@1c7fe9c (panoptic data set).
"""
NOT_NAMED = 0.0
"""Score of the guesses of a region without a vector, from which all classes are equally far."""
GROUPS = {"": ("thing", "stuff", ""), "_thing": ("thing",), "_stuff": ("stuff",)}


def asked_rows(sample: Sample) -> Int[Tensor, " R"]:
    """Which of an image's objects are to be named, in their order.

    Crowds are none, nor boxes that are too small or too large; of the others the first
    :data:`MOST_REGIONS`.
    """
    is_asked = of_areas(
        sample.objects.boxes, smallest_side=SMALLEST_SIDE, largest_side=LARGEST_SIDE
    )
    is_asked &= ~sample.objects.is_crowd
    return is_asked.nonzero()[:MOST_REGIONS, 0]


def guesses_per_region(num_classes: int) -> int:
    """Classes that a region is given, best first."""
    return min(max(RANKS), num_classes)


def class_shares(is_right: Bool[Tensor, " R"], labels: Int[Tensor, " R"]) -> Float[Tensor, " C"]:
    """The share of regions named right, per class that occurs, in the order of labels.

    Args:
        is_right: Per region.
        labels: Its true class.

    Returns:
        In [0, 1], float64; the original rounds them to float16.
    """
    shares = [is_right[labels == label].double().mean() for label in labels.unique()]
    return torch.stack(shares) if shares else torch.zeros(0, dtype=torch.float64)


def mean_class_accuracy(is_right: Bool[Tensor, " R"], labels: Int[Tensor, " R"]) -> float:
    """The mean of :func:`class_shares`, whose arguments it has, over classes.

    Returns:
        In [0, 1]; NaN without regions.

    Source: CLIPSelf (arXiv:2310.01403), sec. 4.1 (mAcc).
    """
    return mean_of(class_shares(is_right, labels).tolist())


def evaluate_boxes(dataset: Dataset, detections: Iterable[Detections]) -> EvaluationReport:
    """Mean accuracy of the names of boxes, from one map of the image."""
    return _report(dataset, detections, "region-macc", "boxes, looked up in one map of the image")


def evaluate_crops(dataset: Dataset, detections: Iterable[Detections]) -> EvaluationReport:
    """Mean accuracy of the names of boxes, each seen as a picture of its own."""
    what = "boxes, each a picture of its own (things with a margin, 1.5 times as wide and high)"
    return _report(dataset, detections, "crop-macc", what)


def evaluate_masks(dataset: Dataset, detections: Iterable[Detections]) -> EvaluationReport:
    """Mean accuracy of the names of masks, from one map of the image."""
    return _report(dataset, detections, "mask-macc", "masks over one map of the image")


def _report(
    dataset: Dataset, detections: Iterable[Detections], protocol: str, what: str
) -> EvaluationReport:
    """Figures of guesses that are the data set's own regions, block by block.

    Raises:
        ValueError: The counts or the classes differ, or these are no such guesses.
    """
    labels, ranks, num_not_named = [], [], 0
    for sample, found in paired(dataset, detections):
        labels.append(sample.objects.labels[asked_rows(sample)])
        ranks.append(torch.tensor(list(_ranks(sample, found)), dtype=torch.int64))
        num_not_named += _num_not_named(found)
    label = torch.cat([torch.zeros(0, dtype=torch.int64), *labels])
    rank = torch.cat([torch.zeros(0, dtype=torch.int64), *ranks])
    sentence = (
        f"Mean class accuracy of given regions ({what}; no crowds, no box below {SMALLEST_SIDE}^2 "
        f"or above {LARGEST_SIDE}^2 pixels): maccN is the mean, over the classes that occur, of "
        f"the share of their regions whose class is among the N best of all "
        f"{len(dataset.categories)}."
    )
    return EvaluationReport(
        protocol=protocol,
        sentence=sentence,
        source=dataset.source,
        num_images=len(dataset),
        splits=split_counts(dataset, lambda category: category.kind or category.split),
        metrics=_figures(dataset, label, rank),
        classes=_class_rows(dataset, label, rank),
        notes=_notes(num_not_named, len(label)),
    )


def _notes(num_not_named: int, num_regions: int) -> tuple[str, ...]:
    if not num_not_named:
        return ()
    return (
        f"{num_not_named} of the {num_regions} regions cover no cell of the map, as thin masks do "
        "once they are as coarse as it: they have no vector, and count as not named.",
    )


def _num_not_named(found: Detections) -> int:
    """Regions all of whose guesses say that there is none."""
    guesses = found.scores.reshape(-1, guesses_per_region(len(found.class_names)))
    return int((guesses == NOT_NAMED).all(dim=1).sum())


def _ranks(sample: Sample, found: Detections) -> Iterator[int]:
    """The place of each asked region's own class among its guesses, from 1 on; 0 if not there."""
    rows = asked_rows(sample).tolist()
    count = guesses_per_region(len(found.class_names))
    if len(found) not in (0, count * len(rows)):
        raise ValueError(
            f"{sample.name}: {len(found)} guesses for {len(rows)} regions of {count} classes each; "
            "this protocol needs a model, not detections from elsewhere"
        )
    # an image that could not be read has no guesses
    labels = torch.where(found.scores == NOT_NAMED, -1, found.labels)
    guesses = labels.reshape(-1, count).tolist() if len(found) else [[]] * len(rows)
    for row, own in zip(rows, guesses, strict=True):
        label = int(sample.objects.labels[row])
        yield own.index(label) + 1 if label in own else 0


def _figures(dataset: Dataset, labels: Tensor, ranks: Tensor) -> dict[str, float]:
    metrics = {}
    has_kinds = any(each.kind for each in dataset.categories)
    for ending, kinds in GROUPS.items():
        if ending and not has_kinds:
            continue
        members = [row for row, each in enumerate(dataset.categories) if each.kind in kinds]
        chosen = torch.isin(labels, torch.tensor(members, dtype=torch.int64))
        for most in RANKS:
            is_right = (ranks > 0) & (ranks <= most)
            metrics[f"macc{most}{ending}"] = mean_class_accuracy(is_right[chosen], labels[chosen])
    return metrics


def _class_rows(dataset: Dataset, labels: Tensor, ranks: Tensor) -> tuple[ClassFigures, ...]:
    rows = []
    for label, category in enumerate(dataset.categories):
        own = ranks[labels == label]
        shares = {
            f"top{most}": float(((own > 0) & (own <= most)).double().mean()) for most in RANKS
        }
        rows.append(ClassFigures(category.name, category.split, len(own), shares))
    return tuple(rows)
