"""Anchors judged and moved: the loss of a class-agnostic region proposal network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou

from regionclip.detections.box_coder import encode_boxes
from regionclip.pairs.boxes import Permutation, sample_rows

from .loss_sum import LossSum, counted

IGNORED = -1
BACKGROUND = -2
_DELTA_WEIGHTS = (1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class RpnLossOptions:
    """Which anchors enter the loss, and how.

    Defaults are ``MODEL.RPN`` of detectron2@e3ee0ab ``detectron2/config/defaults.py``.
    """

    foreground_iou: float = 0.7
    """Overlap from which an anchor is on an object (``IOU_THRESHOLDS``)."""
    background_iou: float = 0.3
    """Overlap below which it is on none; between the two it is left out."""
    anchors_per_image: int = 256
    """Anchors that enter the objectness loss (``BATCH_SIZE_PER_IMAGE``)."""
    foreground_share: float = 0.5
    """Most of them, as a fraction, that are on objects (``POSITIVE_FRACTION``)."""
    smooth_l1_beta: float = 0.0
    """Offset at which the box loss turns from square to linear; 0 is L1 (``SMOOTH_L1_BETA``).
    Faster R-CNN has 1, torchvision 1/9."""
    boxes_over: Literal["sampled", "foreground"] = "sampled"
    """What the mean of the box loss is over: all sampled anchors, or those on objects, which
    weighs it more."""

    def __post_init__(self) -> None:
        if not 0 <= self.background_iou <= self.foreground_iou <= 1:
            raise ValueError(
                "background_iou and foreground_iou must be in [0, 1] and in that order, got "
                f"{self.background_iou} and {self.foreground_iou}"
            )
        if self.anchors_per_image < 1 or not 0 < self.foreground_share <= 1:
            raise ValueError(
                "anchors_per_image must be at least 1 and foreground_share in (0, 1], got "
                f"{self.anchors_per_image} and {self.foreground_share}"
            )
        if self.smooth_l1_beta < 0:
            raise ValueError(f"smooth_l1_beta must not be negative, got {self.smooth_l1_beta}")


@dataclass(frozen=True, slots=True)
class RpnLoss:
    """The two parts: sums over anchors, and over the offsets of those on objects."""

    objectness: LossSum
    boxes: LossSum


def rpn_loss(
    logits: Float[Tensor, "B N"],
    deltas: Float[Tensor, "B N 4"],
    anchors: Float[Tensor, "N 4"],
    boxes: Sequence[Tensor],
    *,
    permutations: Sequence[Permutation],
    options: RpnLossOptions,
) -> RpnLoss:
    """Objectness of sampled anchors and offsets of those on objects.

    Args:
        logits: Objectness of every anchor of every image.
        deltas: Offsets from the anchors.
        anchors: ``xyxy`` in pixels of the network's input, of all levels.
        boxes: Per image, the objects' boxes ``(G, 4)`` in the same pixels; none is fine.
        permutations: Per image, asked for the order in which anchors on objects are drawn, then
            for that of the others.
        options: Which anchors, and how they count.

    Source:
        Faster R-CNN (arXiv:1506.01497), sec. 3.1.2 and 3.1.3.
    """
    picked_logits, targets, picked_deltas, target_deltas = [], [], [], []
    for image, (own, permutation) in enumerate(zip(boxes, permutations, strict=True)):
        match = match_anchors(anchors, own, options)
        foreground, background = sample_rows(
            match >= 0,
            match == BACKGROUND,
            count=options.anchors_per_image,
            foreground_share=options.foreground_share,
            permutation=permutation,
        )
        picked = torch.cat([foreground, background])
        picked_logits.append(logits[image, picked].float())
        targets.append((match[picked] >= 0).float())
        picked_deltas.append(deltas[image, foreground].float())
        target_deltas.append(
            encode_boxes(own[match[foreground]], anchors[foreground], weights=_DELTA_WEIGHTS)
        )
    wanted = torch.cat(targets)
    objectness = F.binary_cross_entropy_with_logits(
        torch.cat(picked_logits), wanted, reduction="sum"
    )
    found, wanted_deltas = torch.cat(picked_deltas), torch.cat(target_deltas)
    distance = F.smooth_l1_loss(found, wanted_deltas, beta=options.smooth_l1_beta, reduction="sum")
    num_boxes = len(wanted) if options.boxes_over == "sampled" else len(found)
    return RpnLoss(objectness=counted(objectness, len(wanted)), boxes=counted(distance, num_boxes))


def match_anchors(
    anchors: Float[Tensor, "N 4"], boxes: Float[Tensor, "G 4"], options: RpnLossOptions
) -> Int[Tensor, " N"]:
    """The box that each anchor is on, ``BACKGROUND`` or ``IGNORED``.

    Each box also gets the anchors that overlap it most, however little that is.
    """
    match = torch.full((len(anchors),), BACKGROUND, device=anchors.device)
    if len(boxes) == 0:
        return match
    overlaps = box_iou(boxes, anchors)
    best, index = overlaps.max(dim=0)
    is_foreground = best >= options.foreground_iou
    match[best >= options.background_iou] = IGNORED
    match[is_foreground] = index[is_foreground]
    best_of_box = overlaps.max(dim=1, keepdim=True).values
    box, anchor = torch.nonzero((overlaps >= best_of_box - 1e-6) & (best_of_box > 0)).unbind(1)
    match[anchor] = box
    return match
