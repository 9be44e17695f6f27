"""Regions classified by the names of their classes, background by no name."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from regionclip.scoring.cosine import class_logits


def region_text_loss(
    region_features: Float[Tensor, "R D"],
    class_embeddings: Float[Tensor, "C D"],
    labels: Int[Tensor, " R"],
    *,
    temperature: float = 0.01,
) -> Float[Tensor, ""]:
    """Cross-entropy of regions over class embeddings and a background with a logit of 0.

    Args:
        region_features: Of any length.
        class_embeddings: Of any length.
        labels: Row of ``class_embeddings``; ``C`` for background.
        temperature: Divides the cosine similarity.

    Returns:
        Mean over regions; 0 for no region.

    Source:
        RegionCLIP (arXiv:2112.09106), sec. 3.4, with a fixed zero vector for background as
        microsoft/RegionCLIP@4b8513b ``detectron2/modeling/roi_heads/fast_rcnn.py:461``.
    """
    if len(region_features) == 0:
        return region_features.sum() * 0
    background = class_embeddings.new_zeros(class_embeddings.shape[1])
    logits = class_logits(
        region_features,
        class_embeddings,
        temperature=temperature,
        background_embedding=background,
    )
    return F.cross_entropy(logits, labels)
