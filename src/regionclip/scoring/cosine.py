"""Class scores from the angle between region features and class embeddings."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

TEMPERATURE = 0.01
"""What cosine similarities are divided by: CLIP's logit scale of 100.

Source:
    CLIP (arXiv:2103.00020), sec. 2.5; microsoft/RegionCLIP@4b8513b ``CLSS_TEMP``.
"""


def class_logits(
    region_features: Float[Tensor, "R D"],
    class_embeddings: Float[Tensor, "C D"],
    *,
    temperature: float = TEMPERATURE,
    background_embedding: Float[Tensor, " D"] | None = None,
) -> Float[Tensor, "R C_out"]:
    """Score every region against every class, in float32 also under autocast.

    Both inputs may have any length; they are L2-normalised here.

    Args:
        region_features: One row per region, in CLIP's joint space.
        class_embeddings: One row per class, averaged over prompt templates.
        temperature: Divides the cosine similarity.
        background_embedding: If given, appended as the last class (``C_out = C + 1``), as it is:
            its length counts, and zeros give a logit of 0.

    Returns:
        Logits, unbounded; ``softmax`` over the last axis gives scores in [0, 1].

    Raises:
        ValueError: ``temperature`` is not positive.

    Source:
        RegionCLIP (arXiv:2112.09106), sec. 3; microsoft/RegionCLIP@4b8513b
        ``detectron2/modeling/roi_heads/fast_rcnn.py:555-566``.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    # bfloat16 resolves a logit of 30 to 0.125 only.
    with torch.autocast(region_features.device.type, enabled=False):
        weight = F.normalize(class_embeddings.float(), dim=1)
        if background_embedding is not None:
            weight = torch.cat([weight, background_embedding.float()[None]])
        return F.normalize(region_features.float(), dim=1) @ weight.T / temperature


def class_scores(
    region_features: Float[Tensor, "R D"],
    class_embeddings: Float[Tensor, "C D"],
    *,
    temperature: float = TEMPERATURE,
    background_embedding: Float[Tensor, " D"] | None = None,
) -> Float[Tensor, "R C_out"]:
    """Softmax of :func:`class_logits`, same arguments.

    Returns:
        Scores in [0, 1]; each row sums to 1 with the background's column, the last, if there is
        one.

    Raises:
        ValueError: ``temperature`` is not positive.
    """
    logits = class_logits(
        region_features,
        class_embeddings,
        temperature=temperature,
        background_embedding=background_embedding,
    )
    return logits.softmax(dim=1)
