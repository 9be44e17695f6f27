"""Precision over recall by the rules of COCO and LVIS, as faster-coco-eval computes them.

Images, classes and boxes are numbered anew for it: its own numbers must be whole and positive, and
data sets have names for images, or a box 0.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Literal

import numpy as np
import torch
from faster_coco_eval import COCO, COCOeval_faster

from regionclip.data.datasets import Dataset, Sample
from regionclip.structures import Detections

from .naming import label_finder

Area = Literal["all", "small", "medium", "large"]
AREAS: Mapping[Area, list[float]] = {
    "all": [0.0, 1e10],
    "small": [0.0, 32.0**2],
    "medium": [32.0**2, 96.0**2],
    "large": [96.0**2, 1e10],
}
"""Square pixels, both ends included. Source: cocodataset.org/#detection-eval."""
COCO_IOUS = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""Source: cocodataset.org/#detection-eval."""

Row = Mapping[str, Any]
"""An entry of a COCO json."""
MAX_PAIRS = 500_000
"""Images times classes that are evaluated at a time. The evaluator keeps something for each pair:
LVIS's 19809 images and 1203 classes at once would take more than 20 GB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CurveOptions:
    """What curves are computed for."""

    regions: Literal["bbox", "segm"] = "bbox"
    """Compare boxes or masks."""
    ious: tuple[float, ...] = COCO_IOUS
    """Overlaps at which a detection has found an object."""
    areas: tuple[Area, ...] = ("all", "small", "medium", "large")
    """Groups of objects by size."""
    max_detections: tuple[int, ...] = (1, 10, 100)
    """Best detections that count, per class and image, ascending."""
    is_federated: bool = False
    """LVIS: a class counts in an image only if somebody looked for it there."""


@dataclass(frozen=True, slots=True)
class Curves:
    """Precision and recall; NaN where a class has no object of that size.

    Attributes:
        precision: By overlap, recall (0, 0.01, ..., 1), class, area and number of detections.
        recall: The highest, by overlap, class, area and number of detections.
        options: Say what the axes hold.
    """

    precision: np.ndarray
    recall: np.ndarray
    options: CurveOptions

    def ap(self, *, iou: float | None = None, area: Area = "all") -> np.ndarray:
        """Average precision ``(C,)`` with the most detections; by default over all overlaps."""
        chosen = self.precision[self._ious(iou), :, :, self.options.areas.index(area), -1]
        return chosen.mean(axis=(0, 1))

    def ar(
        self, *, iou: float | None = None, area: Area = "all", max_detections: int | None = None
    ) -> np.ndarray:
        """Recall ``(C,)``; by default the mean over overlaps, with the most detections."""
        options = self.options
        most = options.max_detections[-1] if max_detections is None else max_detections
        last = options.max_detections.index(most)
        return self.recall[self._ious(iou), :, options.areas.index(area), last].mean(axis=0)

    def _ious(self, iou: float | None) -> list[int]:
        if iou is None:
            return list(range(len(self.options.ious)))
        return [int(np.argmin(np.abs(np.asarray(self.options.ious) - iou)))]


def compute_curves(
    dataset: Dataset, detections: Iterable[Detections], options: CurveOptions
) -> Curves:
    """Match detections with objects and trace precision over recall.

    Crowds are neither counted nor punished. Objects that Pascal VOC calls difficult count like
    others: COCO's rules do not know them.

    Args:
        dataset: What is there.
        detections: One per image, in the data set's order; their vocabulary has the data set's
            classes, in any order. Read once.
        options: What to compute.

    Raises:
        ValueError: The counts or the classes differ, or masks are compared that are not there.
    """
    numbers = image_numbers(dataset)
    truth = _ground_truth(dataset, numbers, options)
    rows = list(_rows(dataset, numbers, detections, options))
    size = max(1, MAX_PAIRS // max(1, len(dataset)))
    categories = truth["categories"]
    parts = [
        _curves_of(
            categories[start : start + size], truth["images"], objects, found, options=options
        )
        for start, objects, found in zip(
            range(0, len(categories), size),
            _by_classes(truth["annotations"], size, len(categories)),
            _by_classes(rows, size, len(categories)),
            strict=True,
        )
    ]
    if not parts:
        return _undefined(0, options)
    return Curves(
        np.concatenate([part.precision for part in parts], axis=2),
        np.concatenate([part.recall for part in parts], axis=1),
        options,
    )


def _by_classes(rows: Sequence[Row], size: int, num_classes: int) -> list[list[Row]]:
    """Rows of the first ``size`` classes, of the next, and so on."""
    groups: list[list[Row]] = [[] for _ in range(0, num_classes, size)]
    for row in rows:
        groups[(row["category_id"] - 1) // size].append(row)
    return groups


def _curves_of(
    categories: Sequence[Row],
    images: Sequence[Row],
    objects: Sequence[Row],
    found: Sequence[Row],
    *,
    options: CurveOptions,
) -> Curves:
    """Those of some classes, from all that there is and was found of them."""
    if not objects:
        return _undefined(len(categories), options)
    if options.is_federated:
        found = _looked_for(found, images, objects)
    used = {row["image_id"] for some in (objects, found) for row in some}
    world = {
        "images": [each for each in images if each["id"] in used],
        "categories": list(categories),
    }
    # a whole data set rather than COCO.loadRes, which refuses an empty list of results
    evaluator = COCOeval_faster(
        COCO(world | {"annotations": objects}),
        COCO(world | {"annotations": found}),
        iouType=options.regions,
        lvis_style=options.is_federated,
    )
    evaluator.params.iouThrs = np.asarray(options.ious)
    evaluator.params.maxDets = list(options.max_detections)
    evaluator.params.areaRng = [AREAS[area] for area in options.areas]
    evaluator.params.areaRngLbl = [str(area) for area in options.areas]
    evaluator.evaluate()
    evaluator.accumulate()
    precision, recall = (np.asarray(evaluator.eval[key]) for key in ("precision", "recall"))
    return Curves(
        np.where(precision < 0, np.nan, precision), np.where(recall < 0, np.nan, recall), options
    )


def paired(
    dataset: Dataset, detections: Iterable[Detections]
) -> Iterator[tuple[Sample, Detections]]:
    """Images with their detections, and the labels of these as the data set numbers them.

    Raises:
        ValueError: There are more or fewer detections than images, or other classes.
    """
    labels_of = label_finder(dataset)
    for index, (sample, found) in enumerate(zip_longest(dataset, detections)):
        if sample is None or found is None:
            raise ValueError(
                f"{dataset.source} has {len(dataset)} images, and there are detections of "
                f"{index if found is None else 'more'}; give one per image, in order"
            )
        labels = torch.tensor(labels_of(found.class_names), dtype=torch.int64)
        yield sample, replace(found, labels=labels[found.labels], class_names=dataset.class_names)


def image_numbers(dataset: Dataset) -> list[int]:
    """1, 2, 3, ... per image in the order of the ids.

    COCO's own tools go through images in that order, and where scores are equal it decides.
    """
    ids = [(isinstance(each.image_id, str), each.image_id) for each in dataset]
    numbers = [0] * len(ids)
    for number, index in enumerate(sorted(range(len(ids)), key=ids.__getitem__), start=1):
        numbers[index] = number
    return numbers


def _ground_truth(dataset: Dataset, numbers: list[int], options: CurveOptions) -> dict[str, Any]:
    images, annotations = [], []
    for number, sample in zip(numbers, dataset, strict=True):
        height, width = _size_of(sample, dataset, options)
        images.append(
            {
                "id": number,
                "height": height,
                "width": width,
                "neg_category_ids": [label + 1 for label in sample.negative_labels],
                "not_exhaustive_category_ids": [
                    label + 1 for label in sample.not_exhaustive_labels
                ],
            }
        )
        annotations += _annotations_of(sample, number, len(annotations), options)
    categories = [
        # the evaluator insists on a frequency; means over groups of classes are taken elsewhere
        {"id": label, "name": each.name, "frequency": each.frequency or "f"}
        for label, each in enumerate(dataset.categories, start=1)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def _looked_for(found: Sequence[Row], images: Sequence[Row], objects: Sequence[Row]) -> list[Row]:
    """Without what nobody looked for, which counts for nothing.

    The evaluator drops it too, but fails at masks of an image in which it drops all.
    """
    looked_for = {(row["image_id"], row["category_id"]) for row in objects} | {
        (image["id"], label) for image in images for label in image["neg_category_ids"]
    }
    return [row for row in found if (row["image_id"], row["category_id"]) in looked_for]


def _size_of(sample: Sample, dataset: Dataset, options: CurveOptions) -> tuple[int, int]:
    if sample.size_hw is not None:
        return sample.size_hw
    if options.regions == "segm":
        raise ValueError(
            f"{dataset.source} does not say how large {sample.name} is, which masks need"
        )
    return 0, 0


def _annotations_of(
    sample: Sample, number: int, num_before: int, options: CurveOptions
) -> list[dict[str, Any]]:
    objects = sample.objects
    if options.regions == "segm" and len(objects) and None in (objects.segmentations or (None,)):
        raise ValueError(f"{sample.name} has an object without a mask; evaluate boxes")
    areas = objects.areas
    rows = []
    for index, (box, label) in enumerate(
        zip(objects.boxes.tolist(), objects.labels.tolist(), strict=True)
    ):
        x0, y0, x1, y1 = box
        row = {
            "id": num_before + index + 1,
            "image_id": number,
            "category_id": label + 1,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": (x1 - x0) * (y1 - y0) if areas is None else float(areas[index]),
            "iscrowd": int(objects.is_crowd[index]),
        }
        if options.regions == "segm":
            row["segmentation"] = objects.segmentations[index]
        rows.append(row)
    return rows


def _rows(
    dataset: Dataset,
    numbers: list[int],
    detections: Iterable[Detections],
    options: CurveOptions,
) -> Iterator[dict[str, Any]]:
    row_id = 0
    for image_index, (sample, found) in enumerate(paired(dataset, detections)):
        if options.regions == "segm" and found.masks is None and len(found):
            raise ValueError(
                f"the detections of {sample.name} have no masks; evaluate boxes, or use a model "
                "with a mask head"
            )
        if options.is_federated:
            # LVIS limits the detections of an image, COCO those of a class in an image
            order = found.scores.argsort(descending=True, stable=True)
            found = found.select(order[: options.max_detections[-1]])
        if options.regions != "segm":
            found = replace(found, masks=None)  # encoding them is work, and nothing looks at them
        for index, row in enumerate(found.to_coco(numbers[image_index])):
            row_id += 1
            _, _, width, height = row["bbox"]
            area = width * height if found.masks is None else int(found.masks[index].sum())
            yield row | {"id": row_id, "area": area, "iscrowd": 0}


def _undefined(num_classes: int, options: CurveOptions) -> Curves:
    """Curves of data without any object."""
    ious, areas = len(options.ious), len(options.areas)
    counts = len(options.max_detections)
    return Curves(
        np.full((ious, 101, num_classes, areas, counts), np.nan),
        np.full((ious, num_classes, areas, counts), np.nan),
        options,
    )
