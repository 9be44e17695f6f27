"""Images and captions pulled together, other pairs of the batch pushed apart."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


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
        return (_mean_log_loss(logits, is_positive) + _mean_log_loss(logits.T, is_positive.T)) / 2


def _mean_log_loss(logits: Tensor, is_positive: Tensor) -> Tensor:
    losses = -logits.log_softmax(dim=1).masked_fill(~is_positive, 0.0)
    return (losses.sum(dim=1) / is_positive.sum(dim=1)).mean()
