"""Cells judged as centres of objects, and the boxes around them: the losses of a heatmap."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from regionclip.pairs.centers import CenterTargets

from .loss_sum import LossSum

SIDES_AT_LEAST = 1e-6
"""Pixels; keeps areas from being divided by zero."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CenterLossOptions:
    """How cells learn.

    Source: Objects as Points (arXiv:1904.07850), eq. 1, for the exponents; focal loss
    (arXiv:1708.02002), sec. 4, for the balance; Probabilistic two-stage detection
    (arXiv:2103.07461), sec. 5.
    """

    error_exponent: float = 2.0
    """Of a cell's error: the larger, the less what is nearly right counts."""
    distance_exponent: float = 4.0
    """Of one minus the wanted heat: the larger, the less cells near a centre are pushed down."""
    center_weight: float = 0.25
    """Factor on centres."""
    other_weight: float = 0.75
    """Factor on all other cells."""
    heat_weight: float = 0.5
    """Factor on both."""
    box_weight: float = 1.0
    """Factor on the loss of boxes."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class CenterLoss:
    """The parts: heat at centres, heat elsewhere, and boxes."""

    centers: LossSum
    others: LossSum
    boxes: LossSum


def center_loss(
    logits: Float[Tensor, "B N"],
    boxes: Float[Tensor, "B N 4"],
    objects: Sequence[Float[Tensor, "_ 4"]],
    targets: Sequence[CenterTargets],
    *,
    options: CenterLossOptions,
) -> CenterLoss:
    """Focal loss of all cells, and generalized IoU of the boxes of cells around centres.

    Heat is divided by the number of centres, boxes by the sum of their cells' wanted heat, which
    they are weighed by.

    Args:
        logits: Of each cell being a centre.
        boxes: ``xyxy``, what each cell says.
        objects: Per image, ``xyxy`` in the same pixels.
        targets: Per image.
        options: Weights and exponents.

    Source:
        Objects as Points (arXiv:1904.07850), eq. 1; generalized IoU (arXiv:1902.09630), algorithm
        1.
    """
    heat = torch.stack([own.heatmap for own in targets])
    centers = [own.center_rows for own in targets]
    at_centers = torch.cat([own[rows] for own, rows in zip(logits, centers, strict=True)])
    num_centers = logits.new_tensor(float(len(at_centers)))
    scores = logits.sigmoid()
    positive = -F.logsigmoid(at_centers) * (-at_centers).sigmoid() ** options.error_exponent
    negative = -F.logsigmoid(-logits) * scores**options.error_exponent
    negative = negative * (1 - heat) ** options.distance_exponent
    found = torch.cat([own[each.box_rows] for own, each in zip(boxes, targets, strict=True)])
    wanted = torch.cat([own[each.box_targets] for own, each in zip(objects, targets, strict=True)])
    weights = torch.cat([each.heatmap[each.box_rows] for each in targets])
    giou = paired_giou(found, wanted)
    factor = options.heat_weight
    return CenterLoss(
        LossSum(factor * options.center_weight * positive.sum(), num_centers),
        LossSum(factor * options.other_weight * negative.sum(), num_centers),
        LossSum(options.box_weight * (weights * (1 - giou)).sum(), weights.sum().detach()),
    )


def paired_giou(boxes: Float[Tensor, "M 4"], others: Float[Tensor, "M 4"]) -> Float[Tensor, " M"]:
    """Generalized IoU, in [-1, 1], of each box with the one in its row, ``xyxy``.

    Source:
        Rezatofighi et al. (arXiv:1902.09630), algorithm 1.
    """

    def area(low: Tensor, high: Tensor) -> Tensor:
        return (high - low).clamp(min=0).prod(dim=1)

    low, high = (
        torch.maximum(boxes[:, :2], others[:, :2]),
        torch.minimum(boxes[:, 2:], others[:, 2:]),
    )
    both = area(low, high)
    union = area(boxes[:, :2], boxes[:, 2:]) + area(others[:, :2], others[:, 2:]) - both
    hull = area(
        torch.minimum(boxes[:, :2], others[:, :2]), torch.maximum(boxes[:, 2:], others[:, 2:])
    )
    union, hull = union.clamp(min=SIDES_AT_LEAST), hull.clamp(min=SIDES_AT_LEAST)
    return both / union - (hull - union) / hull
