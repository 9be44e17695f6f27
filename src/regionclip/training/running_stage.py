"""A stage that is being trained: its optimizer, its averages, and one step after another."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from regionclip.losses import LossSum

from .averaging import MovingAverage
from .optimization import Optimization, learning_rate_factor, make_optimizer


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """How a stage is measured while it learns.

    Attributes:
        every: Steps between measurements; also before the first step and after the last.
        metric: The figure that decides which weights are the best; more is better.
        run: Measures the learner as it is.
        keep_best: Called when ``metric`` is the best so far, to save the weights.
    """

    every: int
    metric: str
    run: Callable[[], Mapping[str, float]]
    keep_best: Callable[[], None]


@runtime_checkable
class Tally(Protocol):
    """What a process counts while it trains, and a resumed run goes on counting."""

    def state(self) -> dict[str, Any]:
        """Plain data."""
        ...

    def restore(self, states: Iterable[Mapping[str, Any]]) -> None:
        """Begin with what several processes have counted together."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One thing to learn.

    Attributes:
        name: For checkpoints, logs and progress.
        learner: See the module's text.
        batches: From the number of parts that are done already, this process's further parts
            of steps, as many as are left.
        optimization: Optimizer and schedule.
        evaluation: ``None`` measures nothing.
        averaged_twice: Beginnings of the names of parameters whose moving average, if one is kept,
            takes them in twice per step.
        after_step: Called after each update of the weights, such as to keep one within bounds.
        tally: Kept in checkpoints, added up over processes.
    """

    name: str
    learner: nn.Module
    batches: Callable[[int], Iterable[Any]]
    optimization: Optimization
    evaluation: Evaluation | None = None
    averaged_twice: tuple[str, ...] = ()
    after_step: Callable[[], None] | None = None
    tally: Tally | None = None


class RunningStage:
    """A stage with its optimizer, and all that a checkpoint of it holds."""

    def __init__(self, stage: Stage, accelerator: Accelerator) -> None:
        plan = stage.optimization
        plan.part_size(accelerator.num_processes)
        self.stage, self.accelerator = stage, accelerator
        self.learner = stage.learner.to(accelerator.device).train()
        optimizer = make_optimizer(self.learner, plan)
        self._trained = [each for each in self.learner.parameters() if each.requires_grad]
        self._average = None
        if plan.ema_decay is not None:
            twice = stage.averaged_twice
            self._average = MovingAverage(self.learner, plan.ema_decay, twice=twice)
        self._prepared, self._optimizer = accelerator.prepare(self.learner, optimizer)
        self.best = float("-inf")

    @property
    def learning_rate(self) -> float:
        """Of the last step."""
        return float(self._optimizer.param_groups[0]["lr"])

    def step(self, step: int, parts: Iterator[Any]) -> dict[str, Tensor]:
        """One update of the weights.

        Returns:
            This process's share of each loss and of their sum; over processes they add up.
        """
        plan = self.stage.optimization
        rate = plan.learning_rate * learning_rate_factor(step, plan)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad()
        shares: dict[str, Tensor] = {}
        for number, batch in enumerate(parts, start=1):
            is_last = number == plan.accumulate
            with nullcontext() if is_last else self.accelerator.no_sync(self._prepared):
                with self.accelerator.autocast():
                    losses = self._prepared(batch)
                for name, share in self._backward(losses).items():
                    shares[name] = shares.get(name, torch.zeros_like(share)) + share
        self._limit_gradients()
        self._optimizer.step()
        if self.stage.after_step is not None:
            self.stage.after_step()
        if self._average is not None:
            self._average.update()
        return shares

    def _backward(self, losses: Mapping[str, LossSum]) -> dict[str, Tensor]:
        """Divide sums by the counts of all processes, and accumulate gradients.

        Averaging each process's mean instead would weigh regions by the process they are in.
        """
        counts = torch.stack([each.count.detach().float() for each in losses.values()])
        counts = over_processes(counts, self.accelerator)
        counts = torch.where(counts > 0, counts, 1.0)
        shares = {
            name: each.total / count / self.stage.optimization.accumulate
            for (name, each), count in zip(losses.items(), counts.unbind(), strict=True)
        }
        loss = torch.stack(list(shares.values())).sum()
        # gradients are averaged over processes, and these shares are to be added
        self.accelerator.backward(loss * self.accelerator.num_processes)
        return {"loss": loss.detach(), **{name: each.detach() for name, each in shares.items()}}

    def _limit_gradients(self) -> None:
        plan = self.stage.optimization
        if plan.max_gradient_norm is None:
            return
        if plan.gradient_norm_of == "all":
            self.accelerator.clip_grad_norm_(self._trained, plan.max_gradient_norm)
            return
        self.accelerator.unscale_gradients()
        for parameter in self._trained:
            nn.utils.clip_grad_norm_(parameter, plan.max_gradient_norm)

    def is_finite(self) -> bool:
        """Whether all trained weights are numbers."""
        return bool(torch.stack([each.isfinite().all() for each in self._trained]).all())

    def share_buffers(self) -> None:
        """Give all processes the first one's statistics, which follow each one's own images."""
        if self.accelerator.num_processes > 1:
            for buffer in self.learner.buffers():
                torch.distributed.broadcast(buffer, 0)

    def averaged(self) -> Any:
        """A context in which the learner has the averaged weights, if averages are kept."""
        return nullcontext() if self._average is None else self._average.in_place()

    def finish(self) -> None:
        """Leave the weights to keep in the learner, in ``eval`` mode."""
        self.share_buffers()
        if self._average is not None:
            self._average.keep()
        self.learner.eval()
        self.accelerator.free_memory()

    def state(self, done: int) -> dict[str, Any]:
        """What :meth:`restore` takes; every process takes part."""
        scaler, tally = self.accelerator.scaler, self.stage.tally
        return {
            "steps_done": done,
            "learner": self.learner.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": None if self._average is None else self._average.state(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "best": self.best,
            "tallies": [] if tally is None else gather_object([tally.state()]),
        }

    def restore(self, state: Mapping[str, Any] | None) -> int:
        """Go on from a checkpoint; the number of steps that are done, 0 without one."""
        if state is None:
            return 0
        self.learner.load_state_dict(state["learner"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._average is not None:
            self._average.load(state["average"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.best = state["best"]
        if self.stage.tally is not None:
            # one process goes on with what all have counted, however many there are now
            is_main = self.accelerator.is_main_process
            self.stage.tally.restore(state.get("tallies", []) if is_main else [])
        return state["steps_done"]


class Window:
    """Losses since the last entry in the logs; they stay on the device until they are asked for."""

    def __init__(self) -> None:
        self._rows: list[dict[str, Tensor]] = []
        self._since = monotonic()

    def add(self, shares: dict[str, Tensor]) -> None:
        """Take a step's losses."""
        self._rows.append(shares)

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """Over steps, added up over processes; empties the window."""
        rows = self._rows
        sums = torch.stack([torch.stack([row[name] for row in rows]).mean() for name in rows[0]])
        sums = over_processes(sums, accelerator)
        seconds = (monotonic() - self._since) / len(rows)
        means = dict(zip(rows[0], sums.tolist(), strict=True))
        self._rows, self._since = [], monotonic()
        return {**means, "seconds": seconds}


def over_processes(values: Tensor, accelerator: Accelerator) -> Tensor:
    """The sum of all processes' values."""
    if accelerator.num_processes == 1:
        return values
    total = values.clone()
    torch.distributed.all_reduce(total)
    return total
