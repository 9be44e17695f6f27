"""Soft non-maximum suppression of all classes at once."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

SoftNmsDecay = Literal["gaussian", "linear", "hard"]


def soft_nms(
    boxes: Float[Tensor, "N 4"],
    scores: Float[Tensor, " N"],
    labels: Int[Tensor, " N"],
    *,
    decay: SoftNmsDecay = "gaussian",
    sigma: float = 0.5,
    nms_iou: float = 0.5,
    prune_score: float = 0.001,
    max_kept: int | None = None,
) -> tuple[Int[Tensor, " K"], Float[Tensor, " K"]]:
    """Lower the score of each box by its overlap with better boxes of its own class.

    Classes do not touch each other, so every round takes the best box of every class at once, and
    there are as many rounds as the fullest class has boxes. With ``max_kept`` a box goes as soon
    as that many taken boxes beat it, for scores only fall: the result is the same, and a handful of
    rounds is enough. No coordinate is shifted, so overlaps are exact in every class.

    Args:
        boxes: ``xyxy``, finite, in any one frame.
        scores: In [0, inf); boxes that do not exceed ``prune_score`` are not returned.
        labels: Class of each box.
        decay: What a box of overlap ``iou`` with a taken box is multiplied by. ``gaussian``:
            ``exp(-iou**2 / sigma)``. ``linear``: ``1 - iou`` if ``iou > nms_iou``.
            ``hard``: 0 if ``iou >= nms_iou``.
        sigma: Width of ``gaussian``.
        nms_iou: Threshold of ``linear`` and ``hard``.
        prune_score: A box whose score falls to this or below is dropped, at least 0.
        max_kept: Keep this many of the best; all by default.

    Returns:
        Rows that stay, best final score first, and their final scores.

    Source:
        Soft-NMS (arXiv:1704.04503), sec. 3; defaults of microsoft/RegionCLIP@4b8513b
        ``detectron2/modeling/roi_heads/soft_nms.py``, which shifts classes apart in float32 instead
        (up to 1e-3 in IoU) and returns one box, the best, where none exceeds ``prune_score``.
    """
    rows = (scores > prune_score).nonzero()[:, 0]
    num_labels = int(labels.max()) + 1 if len(labels) else 0
    boxes, scores, labels = boxes[rows], scores[rows], labels[rows]
    taken_rows, taken_scores = [rows[:0]], [scores[:0]]
    while len(rows):
        leaders = _best_of_own_class(scores, labels, num_labels)
        is_taken = leaders == torch.arange(len(rows), device=rows.device)
        taken_rows.append(rows[is_taken])
        taken_scores.append(scores[is_taken])
        scores = scores * _factors(_paired_iou(boxes, boxes[leaders]), decay, sigma, nms_iou)
        is_left = (scores > prune_score) & ~is_taken
        if max_kept is not None:
            taken_scores = [torch.cat(taken_scores)]
            if len(taken_scores[0]) >= max_kept:
                is_left &= scores >= taken_scores[0].topk(max_kept).values[-1]
        left = is_left.nonzero()[:, 0]
        rows, boxes, scores, labels = rows[left], boxes[left], scores[left], labels[left]
    final_scores, order = torch.cat(taken_scores).sort(descending=True, stable=True)
    return torch.cat(taken_rows)[order[:max_kept]], final_scores[:max_kept]


def _best_of_own_class(scores: Tensor, labels: Tensor, num_labels: int) -> Tensor:
    """For every row, the row of the highest score with the same label; the first among equals."""
    best_scores = scores.new_zeros(num_labels).scatter_reduce(0, labels, scores, "amax")
    best = (scores == best_scores[labels]).nonzero()[:, 0]
    first = labels.new_full((num_labels,), len(scores))
    return first.scatter_reduce(0, labels[best], best, "amin")[labels]


def _paired_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU of each box with its own other; 0 where they share no area."""
    sides = torch.minimum(boxes[:, 2:], others[:, 2:]) - torch.maximum(boxes[:, :2], others[:, :2])
    shared = sides.clamp(min=0).prod(dim=1)
    union = _areas(boxes) + _areas(others) - shared
    return torch.where(shared > 0, shared / union, 0.0)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _factors(iou: Tensor, decay: SoftNmsDecay, sigma: float, nms_iou: float) -> Tensor:
    """What the score of a box that overlaps a taken one by ``iou`` is multiplied by."""
    if decay == "gaussian":
        return torch.exp(-(iou**2) / sigma)
    if decay == "linear":
        return torch.where(iou > nms_iou, 1 - iou, 1.0)
    return (iou < nms_iou).to(iou.dtype)
