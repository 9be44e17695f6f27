"""Regions of captioned pictures: against captions, and against the classes that captions name.

Each pair of region and text is judged by itself (binary cross-entropy), so a region may have
several captions, as a group of tiles has, and none is pushed away because another is pulled closer.

Source: Detic (arXiv:2201.02605), sec. 3.2; CLIM (arXiv:2312.11376), sec. 3.2 and 4.2.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from .loss_sum import LossSum, counted


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionLossOptions:
    """How regions learn from captions; defaults are those of OV-COCO.

    Source: CLIM (arXiv:2312.11376), sec. 4.2; wusize/CLIM@7baade3
    (``DeticCaptionWithComposition``).
    """

    weight: float = 0.1
    """Factor on the loss; OV-LVIS: 1."""
    scale: float = 25.0
    """What cosines are multiplied by; OV-LVIS: 50."""
    negative_weight: float = 0.125
    """Factor on pairs of a region and a caption that is not its own; a region's own captions share
    a weight of 1."""
    regions_per_picture: float | None = 2.0
    """What the sum over regions is divided by, for each picture: the original divides by 4 where a
    process has 2 pictures; ``None``: by the number of regions, as on OV-LVIS."""
    num_groups: int = 4
    """Groups of tiles of each mosaic that are regions too; OV-LVIS: 2."""
    queue_size: int = 256
    """Captions of batches before that regions are compared with."""

    def __post_init__(self) -> None:
        _check_not_negative(self, ("weight", "negative_weight", "num_groups", "queue_size"))
        _check_positive(self, ("scale", "regions_per_picture"))


@dataclass(frozen=True, kw_only=True, slots=True)
class TagLossOptions:
    """How regions learn the classes that captions name; defaults are those of OV-COCO.

    Source: Detic (arXiv:2201.02605), sec. 3.2 ("max-size"); wusize/CLIM@7baade3
    (``DeticTagsWithComposition``).
    """

    weight: float = 0.1 / 3
    """Factor on the loss; OV-LVIS: 0.1."""
    scale: float = 25.0
    """What cosines are multiplied by; OV-LVIS: 50."""
    num_groups: int = 4
    """As that of :class:`CaptionLossOptions`."""
    min_share: float = 0.3
    """A proposal stands for a tile that holds more of it than this."""
    candidates: int = 128
    """Proposals per tile of which the largest is taken."""

    def __post_init__(self) -> None:
        _check_not_negative(self, ("weight", "num_groups", "min_share"))
        _check_positive(self, ("scale", "candidates"))


def caption_region_loss(
    region_vectors: Float[Tensor, "R D"],
    caption_vectors: Float[Tensor, "K D"],
    is_own: Bool[Tensor, "R K"],
    *,
    bias: Float[Tensor, ""] | float,
    options: CaptionLossOptions,
    num_pictures: int = 1,
) -> LossSum:
    """Each region against each caption, summed over captions.

    Args:
        region_vectors: Of any length.
        caption_vectors: Of this batch and, perhaps, of batches before; of any length.
        is_own: Captions that are true of a region: those of its images.
        bias: Added to all logits; learned or fixed.
        options: Weights; the factor on the loss is applied here.
        num_pictures: That the regions are of.

    Returns:
        The sum over regions, and what it is to be divided by.
    """
    logits = similarity_logits(region_vectors, caption_vectors, scale=options.scale) + bias
    losses = F.binary_cross_entropy_with_logits(logits, is_own.float(), reduction="none")
    num_own = is_own.sum(dim=1, keepdim=True).clamp(min=1)
    weights = torch.where(is_own, 1 / num_own, options.negative_weight)
    per_picture = options.regions_per_picture
    return LossSum(
        options.weight * (weights * losses).sum(),
        logits.new_tensor(len(logits) if per_picture is None else per_picture * num_pictures),
    )


def tag_region_loss(
    region_vectors: Float[Tensor, "R D"],
    class_embeddings: Float[Tensor, "C D"],
    is_named: Bool[Tensor, "R C"],
    *,
    bias: Float[Tensor, ""] | float,
    options: TagLossOptions,
) -> LossSum:
    """Each region against each class, summed over classes; a mean over regions.

    Args:
        region_vectors: Of any length.
        class_embeddings: One row per class; of any length.
        is_named: Classes that the captions of a region's images name; perhaps none.
        bias: Added to all logits; learned or fixed.
        options: The factor on the loss is applied here.
    """
    logits = similarity_logits(region_vectors, class_embeddings, scale=options.scale) + bias
    loss = F.binary_cross_entropy_with_logits(logits, is_named.float(), reduction="sum")
    return counted(options.weight * loss, len(logits))


def similarity_logits(
    region_vectors: Float[Tensor, "R D"], text_vectors: Float[Tensor, "K D"], *, scale: float
) -> Float[Tensor, "R K"]:
    """Cosines times ``scale``, in float32."""
    with torch.autocast(region_vectors.device.type, enabled=False):
        regions = F.normalize(region_vectors.float(), dim=1)
        return scale * regions @ F.normalize(text_vectors.float(), dim=1).T


def _check_not_negative(options: object, names: tuple[str, ...]) -> None:
    for name in names:
        if getattr(options, name) < 0:
            raise ValueError(f"{name} must not be negative, got {getattr(options, name)}")


def _check_positive(options: object, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
