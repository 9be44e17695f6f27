"""How many objects boxes without a class reach: average recall."""

from collections.abc import Iterable
from dataclasses import replace

import torch

from regionclip.data.datasets import Category, Dataset
from regionclip.structures import Detections

from .curves import CurveOptions, compute_curves
from .report import EvaluationReport, SplitCounts, mean_of

OBJECT = "object"
"""What boxes without a class are called."""


def evaluate_proposals(dataset: Dataset, detections: Iterable[Detections]) -> EvaluationReport:
    """Average recall of the best 100 and 1000 boxes of an image, whatever their names.

    Args:
        dataset: What is there; its classes do not matter.
        detections: One per image, in the data set's order; scores rank them. Read once.

    Raises:
        ValueError: There are more or fewer than images.

    Source:
        cocodataset.org/#detection-eval with one class for all; COCO's area ranges.
    """
    options = CurveOptions(max_detections=(100, 1000))
    nameless = _without_classes(dataset)
    curves = compute_curves(nameless, map(_without_names, detections), options)
    metrics = {
        f"ar{'' if area == 'all' else f'_{area}'}_{count}": curves.ar(
            area=area, max_detections=count
        )
        for count in options.max_detections
        for area in options.areas
    }
    metrics["recall50_100"] = curves.ar(iou=0.5, max_detections=100)
    metrics["recall50_1000"] = curves.ar(iou=0.5)
    present = [int((~sample.objects.is_crowd).sum()) for sample in dataset]
    return EvaluationReport(
        protocol="proposals",
        sentence=(
            "Proposals: ar_N is the recall of the best N boxes of an image, whatever their class, "
            "mean over IoU 0.50, 0.55, ..., 0.95 by COCO's matching (best box first, each finds "
            "one object); small, medium and large by COCO's areas; recall50_N at IoU 0.5."
        ),
        source=dataset.source,
        num_images=len(dataset),
        splits=(
            SplitCounts("all", len(dataset.categories), sum(map(bool, present)), sum(present)),
        ),
        metrics={name: mean_of(values.tolist()) for name, values in metrics.items()},
    )


def _without_classes(dataset: Dataset) -> Dataset:
    samples = tuple(
        replace(
            sample,
            objects=replace(sample.objects, labels=torch.zeros_like(sample.objects.labels)),
            negative_labels=(),
            not_exhaustive_labels=(),
        )
        for sample in dataset
    )
    return replace(dataset, categories=(Category(OBJECT, 1),), samples=samples)


def _without_names(found: Detections) -> Detections:
    return replace(found, labels=torch.zeros_like(found.labels), class_names=(OBJECT,))
