"""Average precision of detections at one IoU, per class and averaged over groups of classes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from regionclip.structures import Detections

MAX_DETECTIONS = 100
"""Best detections of each image that count; COCO's ``maxDets``.

Source: COCO detection evaluation, cocodataset.org/#detection-eval.
"""


@dataclass(frozen=True, slots=True)
class ClassResult:
    """One class of the ground truth.

    Attributes:
        name: The category's name.
        split: The category's ``split`` entry, such as ``base`` or ``novel``; "" without one.
        num_boxes: Boxes of it in the ground truth.
        ap: Average precision in [0, 1]; ``None`` where the ground truth has no box of it.
    """

    name: str
    split: str
    num_boxes: int
    ap: float | None


@dataclass(frozen=True, slots=True)
class DetectionReport:
    """Average precision per class, and what it was measured on.

    Attributes:
        classes: One row per category, in the ground truth's order.
        num_images: Images of the ground truth, those without boxes included.
        iou: What a detection must overlap a box by to count as having found it.
    """

    classes: tuple[ClassResult, ...]
    num_images: int
    iou: float

    @property
    def splits(self) -> tuple[str, ...]:
        """The groups that classes say they belong to, in order of appearance."""
        return tuple(dict.fromkeys(each.split for each in self.classes if each.split))

    def of_split(self, split: str | None = None) -> tuple[ClassResult, ...]:
        """The classes of one group that have boxes; of all groups for ``None``."""
        return tuple(
            each
            for each in self.classes
            if each.ap is not None and (split is None or each.split == split)
        )

    def mean_ap(self, split: str | None = None) -> float | None:
        """Mean over :meth:`of_split`, in [0, 1]; ``None`` if no class there has a box."""
        values = [each.ap for each in self.of_split(split) if each.ap is not None]
        return fmean(values) if values else None

    @property
    def protocol(self) -> str:
        """One sentence that says how the figures came about."""
        return (
            f"AP at IoU {self.iou:g} as COCO computes it (101 recall points, the best "
            f"{MAX_DETECTIONS} detections of an image), averaged over the classes that have boxes "
            f"in the {self.num_images} images."
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data for JSON; average precisions in [0, 1]."""
        groups = {"all": None, **{split: split for split in self.splits}}
        return {
            "protocol": self.protocol,
            "num_images": self.num_images,
            "iou": self.iou,
            "mean_ap": {group: self.mean_ap(split) for group, split in groups.items()},
            "classes": [
                {"name": each.name, "split": each.split, "boxes": each.num_boxes, "ap": each.ap}
                for each in self.classes
            ],
        }


def evaluate_detections(
    detections: Sequence[Detections], ground_truth: Mapping[str, Any], *, iou: float = 0.5
) -> DetectionReport:
    """Compare detections with the boxes of a COCO data set; prints nothing, changes nothing.

    Args:
        detections: One per entry of ``ground_truth["images"]``, in that order, in pixels of the
            original image. Their vocabulary must hold the ground truth's category names, in any
            order, and no others.
        ground_truth: A COCO ``instances`` dictionary; a category may say its ``split``.
        iou: Overlap at which a detection has found a box, in (0, 1].

    Raises:
        ValueError: The counts differ, a vocabulary does not match the categories, or ``iou`` is
            out of range.
    """
    if not 0 < iou <= 1:
        raise ValueError(f"iou must be in (0, 1], got {iou}")
    images, categories = ground_truth["images"], ground_truth["categories"]
    if len(detections) != len(images):
        raise ValueError(f"got detections of {len(detections)} images for {len(images)} images")
    results = []
    for found, image in zip(detections, images, strict=True):
        category_ids = _category_ids(found.class_names, categories)
        results += found.to_coco(image["id"], category_ids)
    ap = _ap_per_category(results, ground_truth, iou)
    num_boxes = Counter(each["category_id"] for each in ground_truth["annotations"])
    classes = [
        ClassResult(
            name=each["name"],
            split=each.get("split", ""),
            num_boxes=num_boxes[each["id"]],
            ap=ap[each["id"]],
        )
        for each in categories
    ]
    return DetectionReport(tuple(classes), num_images=len(images), iou=float(iou))


def _category_ids(class_names: Sequence[str], categories: Sequence[Mapping[str, Any]]) -> list[int]:
    """The data set's id of each name of a vocabulary."""
    ids = {each["name"]: each["id"] for each in categories}
    if set(class_names) != set(ids):
        odd = sorted(set(class_names) ^ set(ids))[0]
        where = "the data set lacks" if odd in class_names else "the detections were not asked for"
        raise ValueError(
            f"detections and data set must have the same classes: {where} {odd!r} "
            f"({len(class_names)} names against {len(ids)} categories)"
        )
    return [ids[name] for name in class_names]


def _ap_per_category(
    results: Sequence[Mapping[str, Any]], ground_truth: Mapping[str, Any], iou: float
) -> dict[int, float | None]:
    """Average precision by category id; ``None`` for categories without boxes."""
    ids = [each["id"] for each in ground_truth["categories"]]
    if not ground_truth["annotations"]:
        return dict.fromkeys(ids)
    # a whole data set rather than COCO.loadRes, which refuses an empty list of results
    rows = []
    for row_id, row in enumerate(results, start=1):
        _, _, width, height = row["bbox"]
        rows.append({**row, "id": row_id, "area": width * height, "iscrowd": 0})
    found = {
        "images": ground_truth["images"],
        "categories": ground_truth["categories"],
        "annotations": rows,
    }
    evaluator = COCOeval_faster(
        COCO(dict(ground_truth), use_deepcopy=True), COCO(found), iouType="bbox"
    )
    evaluator.params.iouThrs = np.array([iou])
    evaluator.params.maxDets = [MAX_DETECTIONS]
    evaluator.params.areaRng = [[0, 1e10]]
    evaluator.params.areaRngLbl = ["all"]
    evaluator.evaluate()
    evaluator.accumulate()
    # axes: IoU, recall, category, area, detections; -1 where a category has no box
    precision = np.asarray(evaluator.eval["precision"])[0, :, :, 0, 0]
    columns = dict(zip(evaluator.params.catIds, precision.T, strict=True))
    return {each: float(columns[each].mean()) if columns[each][0] >= 0 else None for each in ids}
