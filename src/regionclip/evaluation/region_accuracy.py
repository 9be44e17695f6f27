"""How well true boxes are named: accuracy, and RegionCLIP's average precision with given boxes."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from torchvision.ops import box_iou

from regionclip.data.datasets import Dataset, Sample
from regionclip.detections.nms import batched_nms
from regionclip.structures import Detections

from .coco import evaluate_coco, evaluate_ov_coco
from .counts import split_counts
from .curves import paired
from .lvis import evaluate_lvis
from .report import ClassFigures, EvaluationReport, mean_of

SAME_BOX_IOU = 0.99
"""Detections that overlap a true box by this are about it: files round coordinates."""
RANKS = (1, 5)
UNRANKED = 1 << 30
"""The place of a class that was not guessed at all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenBoxRules:
    """How detections are selected from the classes of given boxes, before average precision.

    Source:
        microsoft/RegionCLIP@4b8513b ``test_zeroshot_inference.sh`` and its configurations.
    """

    min_score: float
    """A (box, class) pair must score higher."""
    max_detections: int
    """Per image."""
    nms_iou: float = 0.5
    """IoU above which the lower-scored box of a class is dropped."""


COCO_RULES = GivenBoxRules(min_score=0.001, max_detections=100)
LVIS_RULES = GivenBoxRules(min_score=0.0001, max_detections=300)


def evaluate_region_accuracy(
    dataset: Dataset, detections: Iterable[Detections]
) -> EvaluationReport:
    """Accuracy of the names of true boxes, and the AP that RegionCLIP reports for given boxes.

    Args:
        dataset: What is there. With frequencies, as LVIS has them, AP is LVIS's and the selection
            RegionCLIP's for LVIS; else COCO's, with base and novel classes apart if it has both.
        detections: One per image, in the data set's order, naming its classes: for every true box
            its classes with scores, as :func:`~.finding.name_true_boxes` gives them. A true box
            without any is named wrong. Read once.

    Raises:
        ValueError: The counts or the classes differ.

    Source:
        RegionCLIP (arXiv:2112.09106), table 4, "GT" boxes; microsoft/RegionCLIP@4b8513b.
    """
    is_lvis = any(each.frequency for each in dataset.categories)
    has_splits = {each.split for each in dataset.categories} >= {"base", "novel"}
    rules = LVIS_RULES if is_lvis else COCO_RULES
    selected: list[Detections] = []
    ranks: list[list[int]] = [[] for _ in dataset.categories]
    for sample, found in paired(dataset, detections):
        for label, rank in _ranks(sample, found):
            ranks[label].append(rank)
        selected.append(_selected(found, rules))
    evaluate = evaluate_lvis if is_lvis else evaluate_ov_coco if has_splits else evaluate_coco
    precision = evaluate(dataset, selected)
    metrics, classes = _accuracies(dataset, ranks, precision)
    wanted = ("ap", "ap50", "ap_rare", "ap_common", "ap_frequent")
    wanted += ("ap50_novel", "ap50_base", "ap50_all")
    metrics |= {name: precision.metrics[name] for name in wanted if name in precision.metrics}
    sentence = (
        "Region accuracy: the boxes are the true ones (no crowds, none without area); topN is the "
        f"share of them whose class is among the N best of all {len(dataset.categories)}, "
        "class_mean_top1 the mean of the classes' shares. AP as in RegionCLIP's table of zero-shot "
        f"recognition with given boxes: a box may have several classes above {rules.min_score:g}, "
        f"NMS at {rules.nms_iou:g} within a class, the best {rules.max_detections} of an image, "
        f"then {precision.sentence}"
    )
    return EvaluationReport(
        protocol="region-accuracy",
        sentence=sentence,
        source=dataset.source,
        num_images=len(dataset),
        splits=split_counts(dataset),
        metrics=metrics,
        classes=classes,
        notes=precision.notes,
    )


def _ranks(sample: Sample, found: Detections) -> Iterator[tuple[int, int]]:
    """Label of each true box, and the place of that label among its guesses, from 1 on."""
    objects = sample.objects
    has_area = (objects.boxes[:, 2:] > objects.boxes[:, :2]).all(dim=1)
    rows = (has_area & ~objects.is_crowd).nonzero()[:, 0]
    boxes = objects.boxes[rows].double()
    overlaps = box_iou(boxes, found.boxes.double())
    for row, own in zip(rows.tolist(), overlaps, strict=True):
        label = int(objects.labels[row])
        guesses: list[int] = []
        if len(found) and own.max() >= SAME_BOX_IOU:
            same = (found.boxes == found.boxes[own.argmax()]).all(dim=1).nonzero()[:, 0]
            order = found.scores[same].argsort(descending=True, stable=True)
            guesses = list(dict.fromkeys(found.labels[same[order]].tolist()))
        yield label, guesses.index(label) + 1 if label in guesses else UNRANKED


def _selected(found: Detections, rules: GivenBoxRules) -> Detections:
    found = found.select((found.scores > rules.min_score).nonzero()[:, 0])
    kept = batched_nms(
        found.boxes.float(),
        found.scores.float(),
        found.labels,
        nms_iou=rules.nms_iou,
        max_kept=rules.max_detections,
    )
    return found.select(kept)


def _accuracies(
    dataset: Dataset, ranks: list[list[int]], precision: EvaluationReport
) -> tuple[dict[str, float], tuple[ClassFigures, ...]]:
    """Shares over all boxes and by split, and one row per class."""
    groups: Mapping[str, Callable[[str], bool]] = {
        "": lambda _: True,
        "_base": lambda split: split == "base",
        "_novel": lambda split: split == "novel",
    }
    has_splits = any(each.split for each in dataset.categories)
    metrics: dict[str, float] = {}
    for ending, belongs in groups.items():
        if ending and not has_splits:
            continue
        chosen = [
            own
            for own, category in zip(ranks, dataset.categories, strict=True)
            if belongs(category.split)
        ]
        for most in RANKS:
            metrics[f"top{most}{ending}"] = _share([rank for own in chosen for rank in own], most)
        metrics[f"class_mean_top1{ending}"] = mean_of([_share(own, 1) for own in chosen])
    classes = tuple(
        replace(
            row, metrics={f"top{most}": _share(own, most) for most in RANKS} | dict(row.metrics)
        )
        for own, row in zip(ranks, precision.classes, strict=True)
    )
    return metrics, classes


def _share(ranks: list[int], most: int) -> float:
    return sum(rank <= most for rank in ranks) / len(ranks) if ranks else float("nan")
