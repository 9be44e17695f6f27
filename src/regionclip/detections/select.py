"""From scored boxes to the detections of one image, in pixels of the prepared image."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from jaxtyping import Float, Int
from torch import Tensor

from regionclip.detections.box_coder import clip_boxes
from regionclip.detections.nms import batched_nms
from regionclip.detections.soft_nms import SoftNmsDecay, soft_nms

NmsMethod = Literal["hard", "soft_gaussian", "soft_linear", "soft_hard"]
ReportedScore = Literal["fused", "class"]
NmsBoxes = Literal["clipped", "whole"]

_DECAY: dict[str, SoftNmsDecay] = {
    "soft_gaussian": "gaussian",
    "soft_linear": "linear",
    "soft_hard": "hard",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectionOptions:
    """Which of the scored boxes become detections; defaults are RegionCLIP's own.

    Source:
        microsoft/RegionCLIP@4b8513b ``detectron2/config/defaults.py`` (``ROI_HEADS``, ``TEST``).
    """

    min_score: float = 0.05
    """A (box, class) pair must score higher; upstream ``SCORE_THRESH_TEST``."""
    nms_iou: float = 0.5
    """IoU above which the lower-scored box of a class is dropped; upstream ``NMS_THRESH_TEST``."""
    nms: NmsMethod = "hard"
    """``soft_*`` lower the scores of overlapping boxes; upstream ``SOFT_NMS_METHOD``."""
    soft_nms_sigma: float = 0.5
    """Width of ``soft_gaussian``; upstream ``SOFT_NMS_SIGMA``."""
    soft_nms_prune: float = 0.001
    """Soft NMS forgets a box at this score; upstream ``SOFT_NMS_PRUNE``."""
    nms_boxes: NmsBoxes = "clipped"
    """What overlap is measured on: boxes ``clipped`` to the image, or ``whole`` as they were
    predicted, as CORA's are; :func:`select_detections` returns the same."""
    max_detections: int = 100
    """Per image, best first; upstream ``TEST.DETECTIONS_PER_IMAGE`` (100 COCO, 300 LVIS)."""
    reported_score: ReportedScore = "fused"
    """``class`` orders by the fused score and reports the class score; upstream ``CLIP.VIS``."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.min_score) and self.min_score >= 0):
            raise ValueError(f"min_score must be finite and at least 0, got {self.min_score}")
        if not 0 <= self.nms_iou <= 1:
            raise ValueError(f"nms_iou must be in [0, 1], got {self.nms_iou}")
        if self.nms not in get_args(NmsMethod):
            raise ValueError(f"unknown nms {self.nms!r}; expected one of {_listed(NmsMethod)}")
        if not self.soft_nms_sigma > 0:
            raise ValueError(f"soft_nms_sigma must be positive, got {self.soft_nms_sigma}")
        if not self.soft_nms_prune >= 0:
            raise ValueError(f"soft_nms_prune must be at least 0, got {self.soft_nms_prune}")
        if self.max_detections < 1:
            raise ValueError(f"max_detections must be at least 1, got {self.max_detections}")
        if self.nms_boxes not in get_args(NmsBoxes):
            raise ValueError(
                f"unknown nms_boxes {self.nms_boxes!r}; expected one of {_listed(NmsBoxes)}"
            )
        if self.reported_score not in get_args(ReportedScore):
            raise ValueError(
                f"unknown reported_score {self.reported_score!r}; "
                f"expected one of {_listed(ReportedScore)}"
            )
        if self.reported_score == "class" and self.nms != "hard":
            raise ValueError(
                f"reported_score='class' goes with nms='hard' only, got nms={self.nms!r}: "
                "soft NMS reports the scores it has lowered"
            )


@dataclass(frozen=True, slots=True)
class Selection:
    """The pairs of box and class that are left, best first.

    Attributes:
        boxes: ``xyxy``, inside the image they were selected in, unless ``nms_boxes="whole"``.
        scores: Fused, or the class score if that was asked for (then not in decreasing order).
        labels: Column of the scores given.
        region_index: Row of the boxes given, rows with undefined numbers counted.
    """

    boxes: Float[Tensor, "N 4"]
    scores: Float[Tensor, " N"]
    labels: Int[Tensor, " N"]
    region_index: Int[Tensor, " N"]


def select_detections(
    boxes: Float[Tensor, "R 4"],
    scores: Float[Tensor, "R C"],
    *,
    class_scores: Float[Tensor, "R C"],
    size_hw: tuple[int, int],
    options: SelectionOptions,
) -> Selection:
    """Threshold, non-maximum suppression within each class, and the best of all classes.

    One box may be kept with several classes. A row with a box or a score that is not finite is
    left out whole. Boxes are clipped to the image, unless ``options.nms_boxes`` says otherwise,
    and may be empty after that.

    Args:
        boxes: ``xyxy``, pixels of the prepared image.
        scores: What decides and orders: class scores, with objectness if there is some; no
            background column.
        class_scores: In [0, 1]; what ``reported_score="class"`` reports.
        size_hw: Height and width of the prepared image without padding.
        options: Thresholds and method.

    Source:
        microsoft/RegionCLIP@4b8513b ``detectron2/modeling/roi_heads/fast_rcnn.py``
        (``fast_rcnn_inference_single_image``). There the row index counts only rows without
        undefined numbers, and so names another region if one of those comes first.
    """
    is_valid = boxes.isfinite().all(dim=1) & scores.isfinite().all(dim=1)
    region, label = ((scores > options.min_score) & is_valid[:, None]).nonzero().unbind(1)
    if options.nms_boxes == "clipped":
        boxes = clip_boxes(boxes, size_hw)
    pair_boxes = boxes[region]
    pair_scores = scores[region, label]
    if options.nms == "hard":
        kept = batched_nms(
            pair_boxes,
            pair_scores,
            label,
            nms_iou=options.nms_iou,
            max_kept=options.max_detections,
        )
        reported = class_scores[region, label] if options.reported_score == "class" else pair_scores
        kept_scores = reported[kept]
    else:
        kept, kept_scores = soft_nms(
            pair_boxes,
            pair_scores,
            label,
            decay=_DECAY[options.nms],
            sigma=options.soft_nms_sigma,
            nms_iou=options.nms_iou,
            prune_score=options.soft_nms_prune,
            max_kept=options.max_detections,
        )
    return Selection(
        boxes=pair_boxes[kept],
        scores=kept_scores,
        labels=label[kept],
        region_index=region[kept],
    )


def _listed(literal: object) -> str:
    return ", ".join(get_args(literal))
