"""Batch norms whose statistics are those of all processes that train together.

torch's ``SyncBatchNorm`` is for GPUs only, and its processes may not differ in whether they have
rows at all where others are asked in a loop; this one is for any device.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class SharedBatchNorm(nn.BatchNorm2d):
    """A batch norm over the rows of all processes; alone, torch's own.

    Processes together then compute what one does on the whole batch. Any of them may have no rows;
    where none has any, statistics stay.

    Source:
        Batch normalization (arXiv:1502.03167), alg. 1; over processes: MegDet (arXiv:1711.07240),
        sec. 3.2.
    """

    def forward(self, input: Float[Tensor, "R F h w"]) -> Float[Tensor, "R F h w"]:
        """Normalise, and while training count the batch's statistics in."""
        if not self.training:
            return super().forward(input)
        if _is_alone():
            return super().forward(input) if len(input) > 0 else self._as_counted(input)
        return self._over_processes(input)

    def _as_counted(self, rows: Tensor) -> Tensor:
        """By the statistics so far; parameters get a gradient, of zero if there are no rows."""
        mean, variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        return F.batch_norm(rows, mean, variance, self.weight, self.bias, eps=self.eps)

    def _over_processes(self, rows: Tensor) -> Tensor:
        values = rows.float()
        axes = (0, 2, 3)
        count = _SumOfAll.apply(values.new_tensor(values.numel() / self.num_features))
        # in two passes: squares of large numbers would drown a small variance
        mean = _SumOfAll.apply(values.sum(axes)) / count.clamp(min=1)
        centred = values - mean[:, None, None]
        variance = _SumOfAll.apply(centred.square().sum(axes)) / count.clamp(min=1)
        if count == 0:
            return self._as_counted(rows) + 0 * centred.to(rows.dtype)
        self._count_in(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(rows.dtype)

    @torch.no_grad()
    def _count_in(self, mean: Tensor, variance: Tensor) -> None:
        self.get_buffer("num_batches_tracked").add_(1)
        share = 0.1 if self.momentum is None else self.momentum
        self.get_buffer("running_mean").lerp_(mean, share)
        self.get_buffer("running_var").lerp_(variance, share)


class _SumOfAll(torch.autograd.Function):
    """A sum over processes, each of which gets the gradients of all."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        """The same everywhere."""
        return _summed(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """What all processes made of the sum."""
        return _summed(gradient)


def _summed(values: Tensor) -> Tensor:
    total = values.detach().clone()
    torch.distributed.all_reduce(total)
    return total


def _is_alone() -> bool:
    own = torch.distributed
    return not (own.is_available() and own.is_initialized() and own.get_world_size() > 1)
