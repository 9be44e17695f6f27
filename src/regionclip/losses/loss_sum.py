"""A loss before it is divided."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LossSum:
    """A sum over rows, and what makes a mean of it.

    Processes (and steps whose gradients accumulate) add up counts and divide their own totals by
    the sum: together they then give what one process gives on the whole batch.

    Attributes:
        total: With gradients; 0 without rows, still connected to its inputs.
        count: Rows, or the sum of their weights; float32, without gradients.
    """

    total: Float[Tensor, ""]
    count: Float[Tensor, ""]

    def mean(self) -> Float[Tensor, ""]:
        """Total over count; 0 where nothing was counted."""
        return self.total / torch.where(self.count > 0, self.count, 1.0)

    def __add__(self, other: "LossSum") -> "LossSum":
        return LossSum(self.total + other.total, self.count + other.count)


def counted(total: Tensor, rows: int) -> LossSum:
    """A sum over as many rows of weight one."""
    return LossSum(total, torch.tensor(float(rows), device=total.device))


def summed(losses: Sequence[LossSum]) -> LossSum:
    """All of at least one loss together."""
    first, *rest = losses
    for loss in rest:
        first = first + loss
    return first
