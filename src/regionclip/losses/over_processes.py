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


def constant_rows_of_all(rows: Tensor) -> Tensor:
    """Every process's rows, in the order of the processes, without gradients.

    Args:
        rows: Any number, which may differ among processes.
    """
    own = rows.detach()
    if not _is_shared():
        return own
    num_processes = torch.distributed.get_world_size()
    counts = torch.zeros(num_processes, dtype=torch.int64, device=own.device)
    counts[torch.distributed.get_rank()] = len(own)
    torch.distributed.all_reduce(counts)
    # what is gathered has to be of one size
    padded = own.new_zeros(int(counts.max()), *own.shape[1:])
    padded[: len(own)] = own
    gathered = [torch.empty_like(padded) for _ in range(num_processes)]
    torch.distributed.all_gather(gathered, padded)
    return torch.cat([each[:count] for each, count in zip(gathered, counts.tolist(), strict=True)])


def sum_of_all(values: Tensor) -> Tensor:
    """The sum over processes, without gradients."""
    total = values.detach().clone()
    if _is_shared():
        torch.distributed.all_reduce(total)
    return total


def _is_shared() -> bool:
    own = torch.distributed
    return own.is_available() and own.is_initialized() and own.get_world_size() > 1
