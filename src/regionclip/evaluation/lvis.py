"""LVIS's figures: a class counts in an image only where somebody looked for it."""

from collections.abc import Iterable, Mapping
from typing import Literal

from regionclip.data.datasets import Dataset, Frequency
from regionclip.structures import Detections

from .coco import class_figures
from .counts import split_counts
from .curves import CurveOptions, compute_curves
from .report import EvaluationReport, mean_of

MAX_DETECTIONS = 300
"""Per image, over all classes. Source: lvis-api ``LVISResults(max_dets=300)``."""
FREQUENCIES: Mapping[Frequency, str] = {"r": "rare", "c": "common", "f": "frequent"}
REGIONS: Mapping[Literal["bbox", "segm"], str] = {"bbox": "boxes", "segm": "masks"}


def evaluate_lvis(dataset: Dataset, detections: Iterable[Detections]) -> EvaluationReport:
    """AP of boxes by LVIS's federated rules, of rare, common and frequent classes apart.

    In an image, detections of a class count if the class is annotated there, or is listed as
    looked for and absent (``negative_labels``); others are left out. Where not every object of a
    class is annotated (``not_exhaustive_labels``), detections that find nothing are left out too.

    Args:
        dataset: What is there, with LVIS's lists per image.
        detections: One per image, in the data set's order, naming its classes; the best 300 of an
            image count. Read once.

    Raises:
        ValueError: The counts or the classes differ.

    Source:
        Gupta et al., LVIS (arXiv:1908.03195), sec. 2.3; lvis-dataset/lvis-api ``lvis/eval.py``.
    """
    return _evaluate(dataset, detections, "bbox")


def evaluate_lvis_masks(dataset: Dataset, detections: Iterable[Detections]) -> EvaluationReport:
    """The same figures of masks.

    Args:
        dataset: What is there, every object with a segmentation.
        detections: As :func:`evaluate_lvis` takes them, with masks.

    Raises:
        ValueError: The counts or the classes differ, or a mask is missing.
    """
    return _evaluate(dataset, detections, "segm")


def is_federated(dataset: Dataset) -> bool:
    """Whether each image was searched for some of the classes only, as LVIS's images were.

    LVIS's jsons tell by the frequencies of their classes, and by lists of classes per image.
    """
    return any(each.frequency for each in dataset.categories) or any(
        sample.negative_labels or sample.not_exhaustive_labels for sample in dataset
    )


def _evaluate(
    dataset: Dataset, detections: Iterable[Detections], regions: Literal["bbox", "segm"]
) -> EvaluationReport:
    options = CurveOptions(regions=regions, max_detections=(MAX_DETECTIONS,), is_federated=True)
    curves = compute_curves(dataset, detections, options)
    ap = curves.ap()
    metrics = {
        "ap": ap.tolist(),
        "ap50": curves.ap(iou=0.5).tolist(),
        "ap75": curves.ap(iou=0.75).tolist(),
        "ap_small": curves.ap(area="small").tolist(),
        "ap_medium": curves.ap(area="medium").tolist(),
        "ap_large": curves.ap(area="large").tolist(),
    }
    for frequency, name in FREQUENCIES.items():
        metrics[f"ap_{name}"] = [
            value
            for value, category in zip(ap.tolist(), dataset.categories, strict=True)
            if category.frequency == frequency
        ]
    metrics["ar300"] = curves.ar().tolist()
    sentence = (
        f"LVIS, {REGIONS[regions]}: AP over IoU 0.50, 0.55, ..., 0.95 and 101 recall points, with "
        "the best 300 detections of an image, federated: a class counts in an image only if it is "
        "annotated there or listed as absent, and a detection of a class that is not exhaustively "
        "annotated there is never wrong; means over the classes that have objects."
    )
    return EvaluationReport(
        protocol="lvis" if regions == "bbox" else "lvis-masks",
        sentence=sentence,
        source=dataset.source,
        num_images=len(dataset),
        splits=split_counts(dataset, lambda category: FREQUENCIES.get(category.frequency, "")),
        metrics={name: mean_of(values) for name, values in metrics.items()},
        classes=class_figures(dataset, {"ap": ap, "ap50": curves.ap(iou=0.5)}),
        notes=_notes(dataset),
    )


def _notes(dataset: Dataset) -> tuple[str, ...]:
    """What is missing for the figures to be LVIS's."""
    notes = []
    if len(dataset) and not any(sample.negative_labels for sample in dataset):
        notes.append(
            "No image lists classes that are absent from it (neg_category_ids): detections of "
            "classes without an object in their image are never wrong."
        )
    if not any(each.frequency for each in dataset.categories):
        notes.append("The classes have no frequency (r, c, f): ap_rare and its like are undefined.")
    return tuple(notes)
