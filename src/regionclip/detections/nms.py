"""Non-maximum suppression that keeps classes apart, exactly and without a loop over classes."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import nms

FIRST_ROUND = 8
"""Candidates looked at first, per box wanted: on photographs that is nearly always enough."""
WITHOUT_FLOAT64 = frozenset({"mps"})
"""Types of device that have no float64. Suppression there runs on the CPU, from which only rows
come back: it takes a millisecond, and float32 would not be exact for classes far down the list."""


def batched_nms(
    boxes: Float[Tensor, "N 4"],
    scores: Float[Tensor, " N"],
    labels: Int[Tensor, " N"],
    *,
    nms_iou: float,
    max_kept: int | None = None,
) -> Int[Tensor, " K"]:
    """Drop each box that overlaps a better one of its own class by more than ``nms_iou``.

    Classes are kept apart by shifting their boxes to separate places. The shift is a multiple of a
    power of two and added in float64, so sides and overlaps stay what they were; in float32, as
    upstream and torchvision do it, the IoU of a class far down the list is off by up to 1e-3.

    Suppression never looks at worse boxes, so the best candidates are settled first and the rest
    is left alone once ``max_kept`` are found: same result, less work.

    Args:
        boxes: ``xyxy``, finite, in any one frame.
        scores: Higher is better, any range.
        labels: Class (or pyramid level) of each box, not negative.
        nms_iou: Suppress above this IoU; an IoU equal to it stays.
        max_kept: Keep this many of the best; all by default.

    Returns:
        Rows that stay, best first; of equal scores the earlier row comes first. On the device of
        ``scores``, also where that has no float64 (:data:`WITHOUT_FLOAT64`).

    Source:
        torchvision ``ops.batched_nms``.
    """
    device = scores.device
    place = exact_device(device)
    boxes, scores, labels = boxes.to(place), scores.to(place), labels.to(place)
    shifted = _apart_by_label(boxes, labels)
    count = len(scores) if max_kept is None else FIRST_ROUND * max_kept
    while True:
        candidates = _best_rows(scores, count)
        kept = candidates[nms(shifted[candidates], scores[candidates].double(), nms_iou)]
        if len(candidates) == len(scores) or (max_kept is not None and len(kept) >= max_kept):
            return kept[:max_kept].to(device)
        count *= 4


def exact_device(device: torch.device) -> torch.device:
    """``device`` itself if it has float64, else the CPU."""
    return torch.device("cpu") if device.type in WITHOUT_FLOAT64 else device


def _apart_by_label(boxes: Tensor, labels: Tensor) -> Tensor:
    """Boxes in float64, those of each label in a stretch of coordinates of its own."""
    if len(boxes) == 0:
        return boxes.double()
    lowest, highest = boxes.min().item(), boxes.max().item()
    stretch = 2.0 ** math.ceil(math.log2(highest - lowest + 1))
    return boxes.double() + labels[:, None] * (2 * stretch)


def _best_rows(scores: Tensor, count: int) -> Tensor:
    """At least ``count`` rows of the highest scores, in row order, ties at the end included."""
    if count >= len(scores):
        return torch.arange(len(scores), device=scores.device)
    least = scores.topk(count).values[-1]
    return (scores >= least).nonzero()[:, 0]
