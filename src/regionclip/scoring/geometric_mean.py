"""Scores of a trained detector and of a frozen CLIP, as one score per class."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def class_exponents(
    is_base: Bool[Tensor, " C"], *, base: float, novel: float
) -> Float[Tensor, " C_out"]:
    """How much of each class's score is the frozen CLIP's: its exponent in the geometric mean.

    Args:
        is_base: Classes that the detector was trained on boxes of.
        base: Of these, and of the background.
        novel: Of all others, for which the frozen CLIP is the better judge.

    Returns:
        One number per class, and a last one for the background (``C_out = C + 1``).

    Raises:
        ValueError: An exponent is not in [0, 1].

    Source:
        F-VLM (arXiv:2209.15639), sec. 3.3, eq. 4 and 5.
    """
    for name, value in (("base", base), ("novel", novel)):
        if not 0 <= value <= 1:
            raise ValueError(f"the {name} classes' exponent must be in [0, 1], got {value}")
    exponents = torch.where(is_base, base, novel)
    return torch.cat([exponents, exponents.new_full((1,), base)])


def fuse_geometric_mean(
    detector_scores: Float[Tensor, "R C_out"],
    clip_scores: Float[Tensor, "R C_out"],
    exponents: Float[Tensor, " C_out"],
) -> Float[Tensor, "R C_out"]:
    """Weighted geometric mean: ``detector ** (1 - exponent) * clip ** exponent``.

    Rows do not sum to one any more, as in the original.

    Args:
        detector_scores: In [0, 1].
        clip_scores: In [0, 1], of the same regions and classes.
        exponents: In [0, 1]; 0 leaves the detector's score, 1 takes CLIP's.

    Source:
        F-VLM (arXiv:2209.15639), sec. 3.3, eq. 4 and 5.
    """
    return detector_scores ** (1 - exponents) * clip_scores**exponents
