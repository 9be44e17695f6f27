"""A detector's queries judged and moved: the losses of boxes that are paired one to one."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou, sigmoid_focal_loss

from regionclip.pairs.queries import FOCAL_ALPHA, FOCAL_GAMMA, QueryMatches

from .loss_sum import LossSum, counted


@dataclass(frozen=True, slots=True)
class QueryLoss:
    """The parts of the loss of one decoder layer; all are divided by one number."""

    objectness: LossSum
    boxes: LossSum
    giou: LossSum


def query_loss(
    boxes_cxcywh: Float[Tensor, "B Q 4"],
    objectness: Float[Tensor, "B Q"],
    target_boxes_cxcywh: Sequence[Tensor],
    matches: Sequence[QueryMatches],
    *,
    num_matched: int,
) -> QueryLoss:
    """Focal loss of all queries' objectness; L1 and generalized IoU of those with an object.

    Args:
        boxes_cxcywh: Of one decoder layer, in units of the images' sides.
        objectness: Logits: 1 is wanted of queries with an object, 0 of all others.
        target_boxes_cxcywh: Per image, ``(N, 4)`` in the same units; none is fine.
        matches: Per image, of this layer.
        num_matched: What the sums are divided by: pairs of the last layer, for all layers. Where
            there is none in any process, the engine divides by 1.

    Source:
        DETR (arXiv:2005.12872), sec. A.2; focal loss (arXiv:1708.02002), eq. 5; generalized IoU
        (arXiv:1902.09630), eq. 2; the normaliser: tgxs002/CORA@c334a6d ``models/fast_detr.py``
        (``SetCriterion``).
    """
    image = torch.cat([torch.full_like(own.query_index, row) for row, own in enumerate(matches)])
    query = torch.cat([own.query_index for own in matches])
    wanted = torch.cat(
        [
            boxes[own.target_index].to(boxes_cxcywh.device, torch.float32)
            for boxes, own in zip(target_boxes_cxcywh, matches, strict=True)
        ]
    )
    is_object = torch.zeros_like(objectness, dtype=torch.float32)
    is_object[image, query] = 1.0
    focal = sigmoid_focal_loss(
        objectness.float(), is_object, alpha=FOCAL_ALPHA, gamma=FOCAL_GAMMA, reduction="sum"
    )
    found = boxes_cxcywh[image, query].float()
    return QueryLoss(
        objectness=counted(focal, num_matched),
        boxes=counted((found - wanted).abs().sum(), num_matched),
        giou=counted((1 - paired_giou(found, wanted)).sum(), num_matched),
    )


def paired_giou(
    boxes_cxcywh: Float[Tensor, "M 4"], others_cxcywh: Float[Tensor, "M 4"]
) -> Float[Tensor, " M"]:
    """Generalized IoU, in [-1, 1], of each box with the one in its row; sides are positive.

    All pairs are computed for the sake of these: torchvision's ``generalized_box_iou_loss``, which
    knows pairs alone, adds 1e-7 to areas, a thousandth of a small object's here.

    Source:
        Rezatofighi et al. (arXiv:1902.09630), algorithm 1.
    """
    first = box_convert(boxes_cxcywh, "cxcywh", "xyxy")
    second = box_convert(others_cxcywh, "cxcywh", "xyxy")
    return generalized_box_iou(first, second).diagonal()
