"""Several processes that share an evaluation, started by ``accelerate launch`` or torchrun."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch.distributed
from accelerate import PartialState

T = TypeVar("T")
PATIENCE = timedelta(days=1)
"""How long one process waits for another, whose images may take longer."""


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those that share the work; alone by default.

    Attributes:
        rank: Its number, from 0.
        count: How many there are.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls, *, on_cpu: bool) -> "Processes":
        """Meet the others, if the launcher started any.

        Args:
            on_cpu: Talk through gloo even where there are GPUs.
        """
        state = PartialState(cpu=on_cpu, timeout=PATIENCE)
        return cls(state.process_index, state.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether this is the one that reports."""
        return self.rank == 0

    def share(self, items: Sequence[T], batch_size: int) -> list[T]:
        """Every n-th batch of ``items``, so that batches are those of a single process."""
        return [
            item
            for index, item in enumerate(items)
            if index // batch_size % self.count == self.rank
        ]

    def from_main(self, value: T) -> T:
        """What the main process has, in all."""
        if self.count == 1:
            return value
        values: list[T] = [value]
        with _talking():
            torch.distributed.broadcast_object_list(values, src=0)
        return values[0]

    def gather(self, value: T) -> list[T]:
        """Every process's value, in the order of ranks, in the main process; else nothing."""
        if self.count == 1:
            return [value]
        values: list[T] = [value] * self.count
        with _talking():
            torch.distributed.gather_object(value, values if self.is_main else None, dst=0)
        return values if self.is_main else []

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            with _talking():
                torch.distributed.barrier()

    def leave(self) -> None:
        """Part from the others, in good order."""
        if self.count > 1:
            PartialState().destroy_process_group()


@contextmanager
def _talking() -> Iterator[None]:
    """Say what a broken connection to another process means.

    Raises:
        ConnectionError: There is no other process any more.
    """
    try:
        yield
    except RuntimeError as error:  # torch's own kinds are all of this one
        raise ConnectionError(
            "another process of this evaluation ended before its time; start all of them again, "
            "and they go on from what was done"
        ) from error
