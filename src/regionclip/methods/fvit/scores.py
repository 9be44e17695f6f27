"""Scores of regions: the detector's and the frozen CLIP's, as one."""

from collections.abc import Collection, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from regionclip.concepts.class_names import builtin_names, plain_name
from regionclip.scoring.cosine import class_logits
from regionclip.scoring.geometric_mean import class_exponents, fuse_geometric_mean

from .config import FvitConfig


def detector_logits(
    embeddings: Float[Tensor, "R D"],
    class_embeddings: Float[Tensor, "C D"],
    background: Float[Tensor, " D"],
    *,
    scale: Tensor | float,
) -> Float[Tensor, "R C_out"]:
    """Cosines times ``scale``, which may be learned; the background's column is the last.

    The original divides by an embedding's length as it is, which gives NaN where no unit fired;
    here such a region is equally far from everything.

    Args:
        embeddings: Of regions, of any length.
        class_embeddings: Of any length; there may be none.
        background: Of any length.
        scale: Positive.
    """
    rows = torch.cat([class_embeddings.to(background), background[None]])
    return class_logits(embeddings, rows, temperature=1.0) * scale


def fused_scores(
    detector: Float[Tensor, "R C_out"],
    clip: Float[Tensor, "R C_out"],
    is_base: Bool[Tensor, " C"],
    config: FvitConfig,
) -> Float[Tensor, "R C_out"]:
    """Logits of both, softmax each, then their weighted geometric mean.

    Source:
        F-VLM (arXiv:2209.15639), sec. 3.3: the background counts as a base class.
    """
    exponents = class_exponents(
        is_base.to(detector.device), base=config.base_exponent, novel=config.novel_exponent
    )
    return fuse_geometric_mean(detector.softmax(dim=1), clip.softmax(dim=1), exponents)


def are_base(class_names: Sequence[str], config: FvitConfig) -> Bool[Tensor, " C"]:
    """Classes that a detector was trained on boxes of, however their names are written."""
    base = {plain_name(name) for name in base_classes(config)}
    return torch.tensor([plain_name(name) in base for name in class_names], dtype=torch.bool)


def base_classes(config: FvitConfig) -> Collection[str]:
    """Names of these classes."""
    return builtin_names(config.base_classes) if config.base_classes else config.own_base_classes
