"""Rows of all processes that train together, for losses that compare every row with every other.

One process alone gets its own rows back.
"""

import torch
from torch import Tensor
from torch.distributed import nn as differentiable


def rows_of_all(rows: Tensor) -> Tensor:
    """Every process's rows, in the order of the processes; gradients flow back to all of them.

    Args:
        rows: As many as every other process has.
    """
    if not _is_shared():
        return rows
    return torch.cat(list(differentiable.all_gather(rows.contiguous())))


def sum_of_all(values: Tensor) -> Tensor:
    """The sum over processes, without gradients."""
    total = values.detach().clone()
    if _is_shared():
        torch.distributed.all_reduce(total)
    return total


def _is_shared() -> bool:
    own = torch.distributed
    return own.is_available() and own.is_initialized() and own.get_world_size() > 1
