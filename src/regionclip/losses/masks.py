"""Cells of a region that belong to its object: the loss of a mask head."""

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from .loss_sum import LossSum, counted


def mask_loss(
    mask_logits: Float[Tensor, "F grid grid"], wanted: Bool[Tensor, "F grid grid"]
) -> LossSum:
    """Binary cross-entropy of every cell of regions on objects.

    Args:
        mask_logits: Class-agnostic, one grid per region on an object.
        wanted: Cells that the object covers, see
            :func:`~regionclip.pairs.masks.mask_targets`.

    Returns:
        The sum over cells, and their number.

    Source:
        Mask R-CNN (arXiv:1703.06870), sec. 3.
    """
    total = F.binary_cross_entropy_with_logits(mask_logits.float(), wanted.float(), reduction="sum")
    return counted(total, wanted.numel())
