"""One stage after another: batches in, a learner that improves, and a run that may be interrupted.

A learner is a module whose ``forward`` takes a batch and gives its losses as sums and counts
(:class:`~regionclip.losses.LossSum`). Nothing else is asked of it.
"""

import logging
import resource
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from regionclip.losses import LossSum

from .averaging import MovingAverage
from .checkpoints import check_folder, claim_folder, load_state, save_state
from .interrupts import StopRequest
from .logs import Logs
from .optimization import Optimization, learning_rate_factor, make_optimizer

LOGGER = logging.getLogger(__name__)
CHECKPOINTS = "checkpoints"
Progress = Callable[[str, int, int, float], None]
"""Called with the stage, the steps done, the number of steps and the loss of late."""
Precision = Literal["fp32", "bf16", "fp16"]


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
    """

    name: str
    learner: nn.Module
    batches: Callable[[int], Iterable[Any]]
    optimization: Optimization
    evaluation: Evaluation | None = None


class Trainer:
    """Runs stages in a folder, from where the folder's last run stopped.

    What is drawn at random in a step depends on the seed, the step and the process alone, so a
    resumed run does what an unbroken one would have done.

    Attributes:
        accelerator: Device, precision and processes.
        folder: Checkpoints and logs.
    """

    def __init__(
        self,
        folder: Path,
        accelerator: Accelerator,
        *,
        settings: Mapping[str, Any],
        seed: int,
        checkpoint_every: int,
        log_every: int = 20,
        tensorboard: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """Open a run.

        Args:
            folder: Where checkpoints and ``metrics.jsonl`` are or will be.
            accelerator: See :func:`make_accelerator`.
            settings: All that the run depends on; the folder is theirs once a stage begins.
            seed: Of all chance.
            checkpoint_every: Steps between checkpoints.
            log_every: Steps between entries in the logs.
            tensorboard: Also write TensorBoard's files.
            progress: Called after each entry in the logs, and at the end of a stage.

        Raises:
            ValueError: The folder holds another recipe's run.
        """
        if accelerator.is_main_process:
            check_folder(folder, settings)
        accelerator.wait_for_everyone()
        self._settings = settings
        self.folder, self.accelerator = folder, accelerator
        self._seed = seed
        self._checkpoint_every, self._log_every = checkpoint_every, log_every
        self._progress = progress
        is_main = accelerator.is_main_process
        self._logs = Logs(folder, tensorboard=tensorboard) if is_main else None

    def run(self, stage: Stage) -> None:
        """Train one stage to its end.

        Raises:
            KeyboardInterrupt: The process was asked to stop; the step was finished and saved.
            FloatingPointError: The loss is no number any more.
        """
        running = _RunningStage(stage, self.accelerator)
        if self.accelerator.is_main_process:
            claim_folder(self.folder, self._settings)
        path = self.folder / CHECKPOINTS / f"{stage.name}.pt"
        first = running.restore(load_state(path))
        plan = stage.optimization
        if self._logs is not None:
            self._logs.rewind(stage.name, first)
        if first == plan.steps and first > 0:
            LOGGER.info("%s is done already", stage.name)
            running.finish()
            return
        if first == 0:
            self._evaluate(running, 0)
        window = _Window(self._log_every)
        parts = iter(stage.batches(first * plan.accumulate))
        with StopRequest() as stop:
            for step in range(first, plan.steps):
                self._seed_step(step)
                window.add(running.step(step, islice(parts, plan.accumulate)))
                done = step + 1
                is_last = done == plan.steps
                if done % self._log_every == 0 or is_last:
                    self._log(running, window, done)
                is_due = stage.evaluation is not None and done % stage.evaluation.every == 0
                if is_due or is_last:
                    self._evaluate(running, done)
                if done % self._checkpoint_every == 0 or is_last or stop.is_asked:
                    self._save(path, running, done)
                if stop.is_asked and not is_last:
                    raise KeyboardInterrupt
        running.finish()

    def note(self, stage: str, step: int, figures: Mapping[str, float]) -> None:
        """Log figures that were measured outside a stage."""
        if self._logs is not None:
            self._logs.write(stage, step, {"evaluation": dict(figures), **figures})

    def _seed_step(self, step: int) -> None:
        process = self.accelerator.process_index
        torch.manual_seed(hash((self._seed, step, process)) % 2**63)

    def _save(self, path: Path, running: "_RunningStage", done: int) -> None:
        if self.accelerator.is_main_process:
            save_state(path, running.state(done))
        self.accelerator.wait_for_everyone()

    def _log(self, running: "_RunningStage", window: "_Window", done: int) -> None:
        """Means since the last entry; every process takes part."""
        means = window.means(self.accelerator)
        steps = running.stage.optimization.steps
        loss = means["loss"]
        if loss != loss or loss in (float("inf"), float("-inf")):
            raise FloatingPointError(
                f"the loss of {running.stage.name} is {loss} at step {done}; lower learning_rate, "
                "set max_gradient_norm, or compute in fp32 (the last checkpoint is from before)"
            )
        if self._logs is None:
            return
        seconds = means["seconds"]
        values = {
            **means,
            "learning_rate": running.learning_rate,
            "images_per_second": running.stage.optimization.batch_size / seconds,
            "seconds_left": (steps - done) * seconds,
            "peak_memory_mb": _peak_memory_mb(),
        }
        self._logs.write(running.stage.name, done, values)
        LOGGER.info("%s %d/%d loss %.4f, %.2f s", running.stage.name, done, steps, loss, seconds)
        if self._progress is not None:
            self._progress(running.stage.name, done, steps, loss)

    def _evaluate(self, running: "_RunningStage", done: int) -> None:
        """Measure, log, and keep the best; every process takes part."""
        evaluation = running.stage.evaluation
        if evaluation is None:
            return
        running.learner.eval()
        with running.averaged():
            figures = dict(evaluation.run())
            if evaluation.metric not in figures:
                raise ValueError(
                    f"the evaluation gives no {evaluation.metric!r}; expected one of "
                    f"{', '.join(figures)}"
                )
            value = figures[evaluation.metric]
            if value == value and value > running.best:  # not NaN: nothing to find
                running.best = value
                if self.accelerator.is_main_process:
                    evaluation.keep_best()
        running.learner.train()
        self.note(running.stage.name, done, figures)
        if self._logs is not None:
            LOGGER.info("%s %d: %s %.4f", running.stage.name, done, evaluation.metric, value)


class _RunningStage:
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
            self._average = MovingAverage(self.learner, plan.ema_decay)
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
        if plan.max_gradient_norm is not None:
            self.accelerator.clip_grad_norm_(self._trained, plan.max_gradient_norm)
        self._optimizer.step()
        if self._average is not None:
            self._average.update()
        return shares

    def _backward(self, losses: Mapping[str, LossSum]) -> dict[str, Tensor]:
        """Divide sums by the counts of all processes, and accumulate gradients.

        Averaging each process's mean instead would weigh regions by the process they are in.
        """
        counts = torch.stack([each.count.detach().float() for each in losses.values()])
        counts = _over_processes(counts, self.accelerator)
        counts = torch.where(counts > 0, counts, 1.0)
        shares = {
            name: each.total / count / self.stage.optimization.accumulate
            for (name, each), count in zip(losses.items(), counts.unbind(), strict=True)
        }
        loss = torch.stack(list(shares.values())).sum()
        # gradients are averaged over processes, and these shares are to be added
        self.accelerator.backward(loss * self.accelerator.num_processes)
        return {"loss": loss.detach(), **{name: each.detach() for name, each in shares.items()}}

    def averaged(self) -> Any:
        """A context in which the learner has the averaged weights, if averages are kept."""
        return nullcontext() if self._average is None else self._average.in_place()

    def finish(self) -> None:
        """Leave the weights to keep in the learner, in ``eval`` mode."""
        if self._average is not None:
            self._average.keep()
        self.learner.eval()
        self.accelerator.free_memory()

    def state(self, done: int) -> dict[str, Any]:
        """What :meth:`restore` takes."""
        scaler = self.accelerator.scaler
        return {
            "steps_done": done,
            "learner": self.learner.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": None if self._average is None else self._average.state(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "best": self.best,
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
        return state["steps_done"]


class _Window:
    """Losses since the last entry in the logs; they stay on the device until they are asked for."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rows: list[dict[str, Tensor]] = []
        self._since = monotonic()

    def add(self, shares: dict[str, Tensor]) -> None:
        self._rows.append(shares)

    def means(self, accelerator: Accelerator) -> dict[str, float]:
        """Over steps, added up over processes; empties the window."""
        rows = self._rows
        sums = torch.stack([torch.stack([row[name] for row in rows]).mean() for name in rows[0]])
        sums = _over_processes(sums, accelerator)
        seconds = (monotonic() - self._since) / len(rows)
        means = dict(zip(rows[0], sums.tolist(), strict=True))
        self._rows, self._since = [], monotonic()
        return {**means, "seconds": seconds}


def _over_processes(values: Tensor, accelerator: Accelerator) -> Tensor:
    """The sum of all processes' values."""
    if accelerator.num_processes == 1:
        return values
    total = values.clone()
    torch.distributed.all_reduce(total)
    return total


def make_accelerator(precision: Precision, *, device: str = "auto") -> Accelerator:
    """What trains: the processes that ``accelerate launch`` or ``torchrun`` started, or this one.

    Args:
        precision: What networks compute in; weights stay in float32.
        device: ``auto`` takes a GPU where there is one, ``cpu`` none.
    """
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    mixed = "no" if precision == "fp32" else precision
    return Accelerator(mixed_precision=mixed, cpu=device == "cpu" or not has_gpu)


def _peak_memory_mb() -> float:
    """Of the GPU, or of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
