"""One thread computes what many requests ask for; what goes together is computed at once."""

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from regionclip.server.settings import Batching

Item = TypeVar("Item")
Result = TypeVar("Result")
Compute = Callable[[Sequence[Item]], Sequence[Result]]
"""Items that go together to one result each, in their order."""


class NotRunningError(RuntimeError):
    """Work was brought before the start, or after the end."""


@dataclass(eq=False, slots=True)
class _Work:
    compute: Compute[Any, Any]
    item: Any
    group: Hashable | None
    deadline: float
    size: int
    future: Future[Any] = field(default_factory=Future)

    def goes_with(self, other: "_Work") -> bool:
        """Whether both may be computed at once."""
        if self is other:
            return True
        return self.group is not None and self.group == other.group


class MicroBatcher:
    """Takes work from any thread and computes it in its own, the oldest first.

    Work waits for company only while nothing else is to be done, so that a busy service loses no
    time and an idle one little. What is cancelled before its turn is let go of at once. If a group
    fails, each of it is computed alone: one bad request does not spoil the others.
    """

    def __init__(
        self, batching: Batching, *, on_batch: Callable[[int], None] | None = None, name: str = ""
    ) -> None:
        """Make one; :meth:`start` has it take work.

        Args:
            batching: How many go together, and how long they wait.
            on_batch: Told of each group's size as it is begun.
            name: Of the thread.
        """
        self._batching = batching
        self._on_batch = on_batch
        self._waiting: list[_Work] = []
        self._changed = threading.Condition()
        self._is_running = False
        self._current_size = 0
        self._name = name
        self._thread = threading.Thread()

    def start(self) -> None:
        """Start the thread, if it does not run; also again after :meth:`close`."""
        self._is_running = True
        if self._thread.is_alive():  # closed in the middle of something, and now it goes on
            return
        self._thread = threading.Thread(target=self._run, name=self._name or None, daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether work is taken."""
        return self._thread.is_alive() and self._is_running

    def __len__(self) -> int:
        """How much work waits; what is being computed does not."""
        return len(self._waiting)

    def submit(
        self,
        compute: Compute[Item, Result],
        item: Item,
        *,
        group: Hashable | None = None,
        size: int = 1,
    ) -> "Future[Result]":
        """Have an item computed.

        Args:
            compute: Gets all items of a group that wait; must be the same for the whole group.
            item: Of the group.
            group: Items of equal groups go together; ``None`` goes alone.
            size: How much work it is, by any measure; see :meth:`let_shorter_go_first`.

        Returns:
            Its result; cancelling it before its turn takes it out.

        Raises:
            NotRunningError: It is not started, or closed.
        """
        deadline = time.monotonic() + self._batching.max_delay_seconds
        work = _Work(compute, item, group, deadline, size)
        with self._changed:
            if not self._is_running:
                raise NotRunningError("the service is shutting down; ask another one")
            self._waiting.append(work)
            self._changed.notify()
        # not with the work, which would keep itself alive by it
        work.future.add_done_callback(self._forget)
        return work.future

    def close(self, seconds: float) -> bool:
        """Take no more, compute what was taken, and end the thread.

        Args:
            seconds: After so long, what has not begun is cancelled.

        Returns:
            Whether the thread has ended. What it has begun cannot be broken off from outside.
        """
        with self._changed:
            self._is_running = False
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(seconds)
        for work in list(self._waiting):
            work.future.cancel()
        return not self._thread.is_alive()

    def let_shorter_go_first(self) -> None:
        """Compute what waits and is half as much work as what is being computed, or less.

        Long work calls this now and then, in the batcher's thread, so that others need not wait for
        all of it. By the half it goes a few levels deep, however much waits.
        """
        for work in list(self._waiting):
            with self._changed:
                # another may have taken it, and what comes meanwhile has its turn the next time
                if work.size > self._current_size // 2 or work not in self._waiting:
                    continue
                self._waiting.remove(work)
            if work.future.set_running_or_notify_cancel():
                self._carry_out([work])

    def _forget(self, future: "Future[Any]") -> None:
        """Let go of what was cancelled; what was computed does not wait any more."""
        if not future.cancelled():
            return
        with self._changed:
            left = [work for work in self._waiting if work.future is not future]
            if len(left) < len(self._waiting):
                self._waiting = left
                self._changed.notify()

    def _run(self) -> None:
        while group := self._next_group():
            begun = [work for work in group if work.future.set_running_or_notify_cancel()]
            if begun:
                self._carry_out(begun)

    def _next_group(self) -> list[_Work]:
        """The oldest work with its company; empty when closed and done."""
        with self._changed:
            while True:
                if not self._waiting:
                    if not self._is_running:
                        return []
                    self._changed.wait()
                    continue
                first = self._waiting[0]
                group = [work for work in self._waiting if work.goes_with(first)]
                group = group[: self._batching.max_size]
                left = first.deadline - time.monotonic()
                is_full = first.group is None or len(group) == self._batching.max_size
                has_others = len(self._waiting) > len(group)
                if is_full or has_others or left <= 0 or not self._is_running:
                    self._waiting = [work for work in self._waiting if work not in group]
                    return group
                self._changed.wait(left)

    def _carry_out(self, group: Sequence[_Work]) -> None:
        if self._on_batch is not None:
            self._on_batch(len(group))
        outer_size, self._current_size = self._current_size, sum(work.size for work in group)
        try:
            results = group[0].compute([work.item for work in group])
        except Exception as error:
            if len(group) == 1:
                group[0].future.set_exception(error)
                return
            for work in group:
                self._carry_out([work])
            return
        finally:
            self._current_size = outer_size
        for work, result in zip(group, results, strict=True):
            work.future.set_result(result)
