"""COCO's figures, and those of open-vocabulary detection on COCO: base and novel classes apart."""

from collections.abc import Iterable

import numpy as np

from regionclip.data.datasets import Dataset
from regionclip.structures import Detections

from .counts import boxes_by_class, split_counts
from .curves import CurveOptions, compute_curves
from .naming import with_splits
from .report import ClassFigures, EvaluationReport, mean_of

DIFFICULT_COUNT = (
    "Objects marked difficult count like others: COCO's rules do not know the mark; voc07 and "
    "voc12 leave them out."
)


def evaluate_coco(dataset: Dataset, detections: Iterable[Detections]) -> EvaluationReport:
    """COCO's 12 figures for boxes: AP and AR over overlaps, sizes and numbers of detections.

    Args:
        dataset: What is there; images without boxes belong to it.
        detections: One per image, in the data set's order, naming its classes. Read once.

    Raises:
        ValueError: The counts or the classes differ.

    Source:
        cocodataset.org/#detection-eval; pycocotools ``COCOeval.summarize``.
    """
    curves = compute_curves(dataset, detections, CurveOptions())
    metrics = {
        "ap": curves.ap(),
        "ap50": curves.ap(iou=0.5),
        "ap75": curves.ap(iou=0.75),
        "ap_small": curves.ap(area="small"),
        "ap_medium": curves.ap(area="medium"),
        "ap_large": curves.ap(area="large"),
        "ar1": curves.ar(max_detections=1),
        "ar10": curves.ar(max_detections=10),
        "ar100": curves.ar(),
        "ar_small": curves.ar(area="small"),
        "ar_medium": curves.ar(area="medium"),
        "ar_large": curves.ar(area="large"),
    }
    sentence = (
        "COCO: ap is the mean over IoU 0.50, 0.55, ..., 0.95 and 101 recall points, with the best "
        "100 detections of each class in an image; ar the highest recall, as far; means over the "
        f"{_with_boxes(dataset)} classes that have boxes."
    )
    return EvaluationReport(
        protocol="coco",
        sentence=sentence,
        source=dataset.source,
        num_images=len(dataset),
        splits=split_counts(dataset),
        metrics={name: mean_of(values.tolist()) for name, values in metrics.items()},
        classes=class_figures(dataset, {name: metrics[name] for name in ("ap", "ap50")}),
        notes=difficult_notes(dataset),
    )


def evaluate_ov_coco(dataset: Dataset, detections: Iterable[Detections]) -> EvaluationReport:
    """AP50 of novel, base and all classes, which all compete with each other.

    Args:
        dataset: With base and novel classes, as :func:`~.naming.with_splits` leaves them; with one
            split alone (``only_split``) its figures are those without competitors.
        detections: One per image, in the data set's order, naming its classes. Read once.

    Raises:
        ValueError: The counts or the classes differ, or nothing tells base and novel apart.

    Source:
        microsoft/RegionCLIP@4b8513b ``detectron2/evaluation/coco_evaluation.py``: the mean over
        the defined precision entries of a split, which is the mean of its classes' AP50.
        tgxs002/CORA@c334a6d gives recall likewise.
    """
    dataset = with_splits(dataset)
    curves = compute_curves(
        dataset,
        detections,
        CurveOptions(ious=(0.5,), areas=("all",), max_detections=(100,)),
    )
    values = {"ap50": curves.ap(), "ar50": curves.ar()}
    metrics = {}
    for figure, by_class in values.items():
        for split in ("novel", "base", "all"):
            chosen = [
                value
                for value, category in zip(by_class.tolist(), dataset.categories, strict=True)
                if split in ("all", category.split)
            ]
            metrics[f"{figure}_{split}"] = mean_of(chosen)
    splits = split_counts(dataset)
    compete = (
        f"all {len(dataset.categories)} classes compete (generalised)"
        if len(splits) > 2
        else f"the {''.join(each.name for each in splits[1:])} classes alone are named"
    )
    sentence = (
        f"Open-vocabulary COCO: AP at IoU 0.5 (101 recall points, the best 100 detections of each "
        f"class in an image), {compete}, means over the classes of a split that have boxes."
    )
    return EvaluationReport(
        protocol="ov-coco",
        sentence=sentence,
        source=dataset.source,
        num_images=len(dataset),
        splits=splits,
        metrics=metrics,
        classes=class_figures(dataset, values),
        notes=difficult_notes(dataset),
    )


def class_figures(dataset: Dataset, by_name: dict[str, np.ndarray]) -> tuple[ClassFigures, ...]:
    """One row per class from arrays ``(C,)`` of figures."""
    num_boxes = boxes_by_class(dataset)
    return tuple(
        ClassFigures(
            name=category.name,
            split=category.split or category.frequency,
            num_boxes=num_boxes[label],
            metrics={name: float(values[label]) for name, values in by_name.items()},
        )
        for label, category in enumerate(dataset.categories)
    )


def difficult_notes(dataset: Dataset) -> tuple[str, ...]:
    """What to say about objects that Pascal VOC calls difficult, if there are any."""
    num_difficult = sum(int(sample.objects.is_difficult.sum()) for sample in dataset)
    return (f"{num_difficult} of the boxes: {DIFFICULT_COUNT}",) if num_difficult else ()


def _with_boxes(dataset: Dataset) -> int:
    return sum(count > 0 for count in boxes_by_class(dataset))
