"""Images and captions pulled together, other pairs of the batch pushed apart."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from .loss_sum import LossSum, counted
from .over_processes import rows_of_all


def caption_contrastive_loss(
    image_features: Float[Tensor, "B D"],
    text_features: Float[Tensor, "B D"],
    *,
    is_positive: Bool[Tensor, "B B"],
    is_ignored: Bool[Tensor, "B B"],
    scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Symmetric contrastive loss of a batch of image-caption pairs.

    Captions repeat, and one caption may be true of several images, so which pairs belong together
    is given, not read off the diagonal.

    Args:
        image_features: One row per image; L2-normalised here.
        text_features: One row per caption; L2-normalised here.
        is_positive: Row: image, column: caption; pairs that belong together. All in all at least
            one per row and column, and symmetric when captions repeat.
        is_ignored: Pairs that are neither pulled together nor pushed apart.
        scale: Factor on cosine similarities, already exponentiated.

    Returns:
        Mean over images and captions; 0 for an empty batch.

    Source:
        CLIP (arXiv:2103.00020), fig. 3; several positives as in UniCL (arXiv:2204.03610), eq. 3.
    """
    if len(image_features) == 0:
        return image_features.sum() * 0
    with torch.autocast(image_features.device.type, enabled=False):
        images = F.normalize(image_features.float(), dim=1)
        texts = F.normalize(text_features.float(), dim=1)
        logits = (scale.float() * images @ texts.T).masked_fill(
            is_ignored & ~is_positive, -torch.inf
        )
        losses = _log_losses(logits, is_positive) + _log_losses(logits.T, is_positive.T)
        return losses.mean() / 2


def image_text_loss(
    image_features: Float[Tensor, "B D"],
    text_features: Float[Tensor, "B D"],
    caption_ids: Int[Tensor, " B"],
    *,
    temperature: float | Float[Tensor, ""],
) -> LossSum:
    """Symmetric contrastive loss of image-caption pairs over the batches of all processes.

    Images whose captions read the same are positives of each other's captions; where all differ,
    it is CLIP's loss.

    Args:
        image_features: One row per image; as many in every process; L2-normalised here.
        text_features: One row per caption; L2-normalised here.
        caption_ids: Equal for captions that read the same, in whatever process.
        temperature: Divides cosine similarities; a tensor if it is learned.

    Returns:
        The sum over this process's pairs, and their number.

    Source:
        CLIP (arXiv:2103.00020), fig. 3; several positives as in UniCL (arXiv:2204.03610), eq. 3;
        RegionCLIP (arXiv:2112.09106), sec. 3.3, with the gather of microsoft/RegionCLIP@4b8513b.
    """
    with torch.autocast(image_features.device.type, enabled=False):
        images = F.normalize(image_features.float(), dim=1)
        texts = F.normalize(text_features.float(), dim=1)
        is_positive = caption_ids[:, None] == rows_of_all(caption_ids)[None]
        by_image = _log_losses(images @ rows_of_all(texts).T / temperature, is_positive)
        by_text = _log_losses(texts @ rows_of_all(images).T / temperature, is_positive)
        return counted((by_image + by_text).sum() / 2, len(images))


def _log_losses(logits: Tensor, is_positive: Tensor) -> Tensor:
    """Per row, the mean over positives of minus their log-probability."""
    losses = -logits.log_softmax(dim=1).masked_fill(~is_positive, 0.0)
    return losses.sum(dim=1) / is_positive.sum(dim=1)
