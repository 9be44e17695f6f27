"""Anchors judged and moved: the loss of a class-agnostic region proposal network."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou

from regionclip.detections.box_coder import encode_boxes

IGNORED = -1
BACKGROUND = -2
FOREGROUND_IOU = 0.6
"""Detectron2 takes 0.7; narrow networks with few anchors need more anchors per object."""
BACKGROUND_IOU = 0.3
NUM_SAMPLED = 128
"""Anchors per image that enter the objectness loss, at most half of them on objects."""
_DELTA_WEIGHTS = (1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class RpnLoss:
    """The two parts, each a mean."""

    objectness: Float[Tensor, ""]
    boxes: Float[Tensor, ""]


def rpn_loss(
    logits: Float[Tensor, "B N"],
    deltas: Float[Tensor, "B N 4"],
    anchors: Float[Tensor, "N 4"],
    boxes: Sequence[Tensor],
    *,
    generator: torch.Generator | None = None,
) -> RpnLoss:
    """Objectness of sampled anchors and offsets of those on objects.

    Args:
        logits: Objectness of every anchor of every image.
        deltas: Offsets from the anchors.
        anchors: ``xyxy`` in pixels of the network's input, of all levels.
        boxes: Per image, the objects' boxes ``(G, 4)`` in the same pixels; none is fine.
        generator: Chance of the sampling.

    Source:
        Faster R-CNN (arXiv:1506.01497), sec. 3.1.2 and 3.1.3.
    """
    picked_logits, targets, picked_deltas, target_deltas = [], [], [], []
    for image, own in enumerate(boxes):
        match = match_anchors(anchors, own)
        positive, negative = _sample(match, generator)
        picked = torch.cat([positive, negative])
        picked_logits.append(logits[image, picked].float())
        targets.append((match[picked] >= 0).float())
        picked_deltas.append(deltas[image, positive].float())
        target_deltas.append(
            encode_boxes(own[match[positive]], anchors[positive], weights=_DELTA_WEIGHTS)
        )
    objectness = F.binary_cross_entropy_with_logits(torch.cat(picked_logits), torch.cat(targets))
    found, wanted = torch.cat(picked_deltas), torch.cat(target_deltas)
    distance = F.smooth_l1_loss(found, wanted, beta=1 / 9, reduction="sum")
    return RpnLoss(objectness=objectness, boxes=distance / max(len(found), 1))


def match_anchors(anchors: Float[Tensor, "N 4"], boxes: Float[Tensor, "G 4"]) -> Int[Tensor, " N"]:
    """The box that each anchor is on, ``BACKGROUND`` or ``IGNORED``.

    Each box also gets the anchors that overlap it most, however little that is.
    """
    match = torch.full((len(anchors),), BACKGROUND, device=anchors.device)
    if len(boxes) == 0:
        return match
    overlaps = box_iou(boxes, anchors)
    best, index = overlaps.max(dim=0)
    match[best >= BACKGROUND_IOU] = IGNORED
    match[best >= FOREGROUND_IOU] = index[best >= FOREGROUND_IOU]
    best_of_box = overlaps.max(dim=1, keepdim=True).values
    box, anchor = torch.nonzero((overlaps >= best_of_box - 1e-6) & (best_of_box > 0)).unbind(1)
    match[anchor] = box
    return match


def _sample(match: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    positive = torch.nonzero(match >= 0)[:, 0]
    negative = torch.nonzero(match == BACKGROUND)[:, 0]
    positive = _pick(positive, NUM_SAMPLED // 2, generator)
    return positive, _pick(negative, NUM_SAMPLED - len(positive), generator)


def _pick(rows: Tensor, number: int, generator: torch.Generator | None) -> Tensor:
    order = torch.randperm(len(rows), generator=generator).to(rows.device)
    return rows[order[:number]]
