"""Boxes as offsets from reference boxes, and the few operations on plain boxes.

Everything is ``xyxy``; the frame is the caller's. Zero rows are fine everywhere.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

BoxWeights = tuple[float, float, float, float]

REGION_BOX_WEIGHTS: BoxWeights = (10.0, 10.0, 5.0, 5.0)
"""What the offsets of RegionCLIP's box regressor are multiplied by.

Source: detectron2@e3ee0ab ``detectron2/config/defaults.py`` (``ROI_BOX_HEAD.BBOX_REG_WEIGHTS``).
"""

MAX_LOG_SCALE = math.log(1000.0 / 16)
"""Largest ``dw`` or ``dh`` that is believed: a box grows 62.5 times at most.

Source: facebookresearch/detectron2@e3ee0ab ``detectron2/modeling/box_regression.py``
(``_DEFAULT_SCALE_CLAMP``).
"""


def bounded(
    deltas: Float[Tensor, "*R 4"], *, weights: BoxWeights = (1.0, 1.0, 1.0, 1.0)
) -> Float[Tensor, "*R 4"]:
    """Offsets that let a box shrink no further than :func:`decode_boxes` lets it grow: 62.5 times.

    Source:
        mmdetection's ``DeltaXYWHBBoxCoder`` (``wh_ratio_clip`` 16/1000) cuts at both ends.
    """
    least = deltas.new_tensor([-torch.inf, -torch.inf, -MAX_LOG_SCALE, -MAX_LOG_SCALE])
    return torch.maximum(deltas, least * deltas.new_tensor(weights))


def decode_boxes(
    deltas: Float[Tensor, "R 4"], boxes: Float[Tensor, "R 4"], *, weights: BoxWeights
) -> Float[Tensor, "R 4"]:
    """Apply regression offsets to boxes.

    Args:
        deltas: ``(dx, dy, dw, dh)``: shifts in units of the box's sides, logarithms of the factors
            on its sides, each multiplied by its weight. ``dw`` and ``dh`` are cut at
            ``log(1000 / 16)`` after the division.
        boxes: What the offsets are from.
        weights: What ``deltas`` were multiplied by: (1, 1, 1, 1) for proposals,
            :data:`REGION_BOX_WEIGHTS` for RegionCLIP's box head.

    Returns:
        Boxes in the frame of ``boxes``, not clipped.

    Source:
        R-CNN (arXiv:1311.2524), appendix C; the cut as in detectron2@e3ee0ab
        ``detectron2/modeling/box_regression.py:Box2BoxTransform.apply_deltas``.
    """
    width, height, center_x, center_y = _cxcywh_parts(boxes)
    dx, dy, dw, dh = (deltas / deltas.new_tensor(weights)).unbind(1)
    center_x = dx * width + center_x
    center_y = dy * height + center_y
    half_width = 0.5 * torch.exp(dw.clamp(max=MAX_LOG_SCALE)) * width
    half_height = 0.5 * torch.exp(dh.clamp(max=MAX_LOG_SCALE)) * height
    sides = (center_x - half_width, center_y - half_height)
    return torch.stack([*sides, center_x + half_width, center_y + half_height], dim=1)


def encode_boxes(
    targets: Float[Tensor, "R 4"], boxes: Float[Tensor, "R 4"], *, weights: BoxWeights
) -> Float[Tensor, "R 4"]:
    """The offsets that :func:`decode_boxes` turns ``boxes`` into ``targets`` with.

    Both must have positive sides; an empty box gives infinite or undefined offsets.

    Source:
        R-CNN (arXiv:1311.2524), appendix C.
    """
    width, height, center_x, center_y = _cxcywh_parts(boxes)
    target_width, target_height, target_x, target_y = _cxcywh_parts(targets)
    deltas = torch.stack(
        [
            (target_x - center_x) / width,
            (target_y - center_y) / height,
            torch.log(target_width / width),
            torch.log(target_height / height),
        ],
        dim=1,
    )
    return deltas * deltas.new_tensor(weights)


def clip_boxes(boxes: Float[Tensor, "*R 4"], size_hw: tuple[int, int]) -> Float[Tensor, "*R 4"]:
    """Move corners outside an image of ``size_hw`` pixels onto its border."""
    height, width = size_hw
    x0, y0, x1, y1 = boxes.unbind(-1)
    return torch.stack(
        [x0.clamp(0, width), y0.clamp(0, height), x1.clamp(0, width), y1.clamp(0, height)], dim=-1
    )


def nonempty(boxes: Float[Tensor, "*R 4"], *, min_side: float = 0.0) -> Bool[Tensor, "*R"]:
    """Which boxes have both sides longer than ``min_side``; a side that is NaN is not."""
    sides = boxes[..., 2:] - boxes[..., :2]
    return (sides > min_side).all(dim=-1)


def of_areas(
    boxes: Float[Tensor, "R 4"], *, smallest_side: int, largest_side: int
) -> Bool[Tensor, " R"]:
    """Which boxes have an area between those of two squares, both included, and sides above 0.

    Args:
        boxes: ``xyxy``, pixels.
        smallest_side: Pixels of the smaller square's side, positive.
        largest_side: Of the larger one's.
    """
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    return (areas >= smallest_side**2) & (areas <= largest_side**2) & nonempty(boxes)


def _cxcywh_parts(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Width, height and centre of each box."""
    width = boxes[:, 2] - boxes[:, 0]
    height = boxes[:, 3] - boxes[:, 1]
    return width, height, boxes[:, 0] + 0.5 * width, boxes[:, 1] + 0.5 * height
