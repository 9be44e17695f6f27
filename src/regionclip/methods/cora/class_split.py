"""Steps in which anchors are to look for less likely classes: half of them are hidden by turns.

Source: tgxs002/CORA@c334a6d ``engine.py``, ``models/fast_detr.py`` (``split_class``).
"""

import random
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from regionclip.data.sampling import mixed_seed

UniformNumbers = Callable[[int, int], Tensor]
"""From a step and a number of classes to as many numbers in [0, 1)."""


def is_split_step(step: int, *, share: float, period: int | None = None) -> bool:
    """Whether the classes of a step are split; in all processes and all runs the same.

    Args:
        step: Of the run, from 0 on.
        share: Fraction of the steps that are.
        period: Steps after which the choice repeats; ``None`` never.
    """
    return random.Random(step if period is None else step % period).random() < share


def uniform_numbers_of(seed: int) -> UniformNumbers:
    """Numbers that depend on a run's seed and the step alone, so that all processes split alike."""

    def numbers(step: int, count: int) -> Float[Tensor, " count"]:
        # another stream than those of orders and images
        generator = torch.Generator().manual_seed(mixed_seed(mixed_seed(seed, 3), step))
        return torch.rand(count, generator=generator)

    return numbers


def halved_embeddings(
    class_embeddings: Float[Tensor, "C D"], numbers: Float[Tensor, " C"]
) -> tuple[Float[Tensor, "C D"], Float[Tensor, "C D"]]:
    """The embeddings twice, every row in one of the two: the other has zeros in its place.

    A row of zeros has similarity 0 to everything and may still be the best of all.

    Args:
        class_embeddings: Any length.
        numbers: In [0, 1); rows whose number is above 0.5 are in the second alone.
    """
    is_second = (numbers > 0.5).to(class_embeddings.device)[:, None]
    return class_embeddings.masked_fill(is_second, 0), class_embeddings.masked_fill(~is_second, 0)
