"""Regions named: cross-entropy over classes with background last, in two weightings."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .loss_sum import LossSum, counted

_MIN_ERROR = 1e-12
"""Below this, ``1 - p`` counts as a constant: the slope of its root is infinite at 0."""


def focal_scaled_cross_entropy(
    logits: Float[Tensor, "R C"],
    labels: Int[Tensor, " R"],
    *,
    gamma: float,
    background_weight: float = 1.0,
) -> LossSum:
    """Cross-entropy times ``(1 - p)^gamma``, ``p`` being the label's probability.

    Gradients go through the factor. The mean is plain: weights scale rows, not the count (trap
    T11 of the original: its other loss divides by the weights).

    Args:
        logits: One column per class, background last.
        labels: Column of each region.
        gamma: 0 leaves the cross-entropy; the larger, the less sure regions count.
        background_weight: Factor on regions whose label is the last column.

    Returns:
        The sum over regions, and their number.

    Source:
        RegionCLIP (arXiv:2112.09106), "focal scaling" (0.5, with a background weight of 0.2 on
        COCO); focal loss (arXiv:1708.02002), eq. 4, without alpha. Where ``p`` rounds to 1 the
        gradient is 0 here; differentiating the formula as it stands gives NaN.
    """
    losses = _cross_entropies(logits, labels)
    # 1 - exp(-loss) without cancellation: p itself rounds to 1 long before the loss is 0
    factors = (-torch.expm1(-losses)).clamp(min=_MIN_ERROR) ** gamma
    weights = _row_weights(labels, logits.shape[1], background_weight)
    return counted((weights * factors * losses).sum(), len(logits))


def weighted_cross_entropy(
    logits: Float[Tensor, "R C"], labels: Int[Tensor, " R"], *, background_weight: float = 1.0
) -> LossSum:
    """Cross-entropy with a weight on background, which the mean is normalised by.

    Args:
        logits: One column per class, background last.
        labels: Column of each region.
        background_weight: Weight of regions whose label is the last column; others have 1.

    Returns:
        The weighted sum over regions, and the sum of their weights.

    Source:
        RegionCLIP (arXiv:2112.09106), "class-wise weighted cross-entropy" (0.8 for background
        on LVIS); ``torch.nn.functional.cross_entropy`` with ``weight``.
    """
    weights = _row_weights(labels, logits.shape[1], background_weight)
    return LossSum((weights * _cross_entropies(logits, labels)).sum(), weights.sum())


def _cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    return -logits.float().log_softmax(dim=1).gather(1, labels[:, None])[:, 0]


def _row_weights(labels: Tensor, num_columns: int, background_weight: float) -> Tensor:
    is_background = labels == num_columns - 1
    return torch.where(is_background, background_weight, 1.0).to(torch.float32)
