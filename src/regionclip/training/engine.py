"""One stage after another: batches in, a learner that improves, and a run that may be interrupted.

A learner is a module whose ``forward`` takes a batch and gives its losses as sums and counts
(:class:`~regionclip.losses.LossSum`). Nothing else is asked of it.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs

from regionclip.evaluation.processes import PATIENCE

from .checkpoints import CHECKPOINTS, check_folder, claim_folder, load_state, remove_run, save_state
from .interrupts import StopRequest
from .logs import Logs
from .running_stage import RunningStage, Stage, Window, over_processes
from .trial import peak_memory_mb

LOGGER = logging.getLogger(__name__)
Progress = Callable[[str, int, int, float], None]
"""Called with the stage, the steps done, the number of steps and the loss of late."""
Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bookkeeping:
    """How often a run says and saves how far it is."""

    checkpoint_every: int
    """Steps between checkpoints."""
    log_every: int = 20
    """Steps between entries in the logs."""
    tensorboard: bool = False
    """Also write TensorBoard's files."""


class Trainer:
    """Runs stages in a folder, from where the folder's last run stopped.

    What is drawn at random in a step depends on the seed, the step and the process alone, so a
    resumed run does what an unbroken one would have done.

    Attributes:
        accelerator: Device, precision and processes.
        folder: Checkpoints and logs.
        resume: Whether it goes on with what the folder has.
    """

    def __init__(
        self,
        folder: Path,
        accelerator: Accelerator,
        *,
        settings: Mapping[str, Any],
        resume: bool,
        seed: int,
        books: Bookkeeping,
        progress: Progress | None = None,
    ) -> None:
        """Open a run.

        Args:
            folder: Where checkpoints and ``metrics.jsonl`` are or will be.
            accelerator: See :func:`make_accelerator`.
            settings: All that the run depends on; the folder is theirs once a stage begins.
            resume: Go on with what the folder has; else that is deleted when a stage begins.
            seed: Of all chance.
            books: How often it is logged and saved.
            progress: Called after each entry in the logs, and at the end of a stage.

        Raises:
            ValueError: The folder holds another recipe's run.
        """
        if accelerator.is_main_process and resume:
            check_folder(folder, settings)
        accelerator.wait_for_everyone()
        self._settings, self.resume = settings, resume
        self.folder, self.accelerator = folder, accelerator
        self._seed = seed
        self._books = books
        self._progress = progress
        self._logs: Logs | None = None

    def is_begun(self, stage: Stage) -> bool:
        """Whether the folder has a checkpoint that the stage will go on from."""
        return self.resume and self._checkpoint(stage).exists()

    def _checkpoint(self, stage: Stage) -> Path:
        return self.folder / CHECKPOINTS / f"{stage.name}.pt"

    def run(self, stage: Stage) -> None:
        """Train one stage to its end.

        Raises:
            KeyboardInterrupt: The process was asked to stop; the step was finished and saved.
            FloatingPointError: The loss is no number any more.
        """
        running = RunningStage(stage, self.accelerator)
        self._claim()
        path = self._checkpoint(stage)
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
        window = Window()
        parts = iter(stage.batches(first * plan.accumulate))
        with StopRequest() as stop:
            for step in range(first, plan.steps):
                self._seed_step(step)
                window.add(running.step(step, islice(parts, plan.accumulate)))
                done = step + 1
                is_last = done == plan.steps
                if done % self._books.log_every == 0 or is_last:
                    self._log(running, window, done)
                is_due = stage.evaluation is not None and done % stage.evaluation.every == 0
                if is_due or is_last:
                    self._evaluate(running, done)
                is_stopping = self._agrees_to_stop(stop, done)
                if done % self._books.checkpoint_every == 0 or is_last or is_stopping:
                    self._save(path, running, done)
                if is_stopping and not is_last:
                    raise KeyboardInterrupt
        running.finish()

    def _claim(self) -> None:
        """Make the folder this run's, before its first stage."""
        if self.accelerator.is_main_process and self._logs is None:
            if not self.resume:
                remove_run(self.folder)
            claim_folder(self.folder, self._settings)
            self._logs = Logs(self.folder, tensorboard=self._books.tensorboard)
        self.accelerator.wait_for_everyone()

    def note(self, stage: str, step: int, figures: Mapping[str, float]) -> None:
        """Log figures that were measured outside a stage."""
        if self._logs is not None:
            self._logs.write(stage, step, {"evaluation": dict(figures), **figures})

    def _agrees_to_stop(self, stop: StopRequest, done: int) -> bool:
        """Whether any process was asked to stop; several look at it together, now and then."""
        if self.accelerator.num_processes == 1:
            return stop.is_asked
        if done % self._books.log_every:
            return False
        asked = torch.tensor(float(stop.is_asked), device=self.accelerator.device)
        return bool(over_processes(asked, self.accelerator) > 0)

    def _seed_step(self, step: int) -> None:
        process = self.accelerator.process_index
        torch.manual_seed(hash((self._seed, step, process)) % 2**63)

    def _save(self, path: Path, running: "RunningStage", done: int) -> None:
        if not running.is_finite():
            raise _diverged(running.stage.name, "a weight", done)
        state = running.state(done)
        if self.accelerator.is_main_process:
            save_state(path, state)
        self.accelerator.wait_for_everyone()

    def _log(self, running: "RunningStage", window: "Window", done: int) -> None:
        """Means since the last entry; every process takes part."""
        means = window.means(self.accelerator)
        steps = running.stage.optimization.steps
        loss = means["loss"]
        if not math.isfinite(loss):
            raise _diverged(running.stage.name, "the loss", done)
        if self._logs is None:
            return
        seconds = means["seconds"]
        values = {
            **means,
            "learning_rate": running.learning_rate,
            "images_per_second": running.stage.optimization.batch_size / seconds,
            "seconds_left": (steps - done) * seconds,
            "peak_memory_mb": peak_memory_mb(),
        }
        self._logs.write(running.stage.name, done, values)
        LOGGER.info("%s %d/%d loss %.4f, %.2f s", running.stage.name, done, steps, loss, seconds)
        if self._progress is not None:
            self._progress(running.stage.name, done, steps, loss)

    def _evaluate(self, running: "RunningStage", done: int) -> None:
        """Measure, log, and keep the best; every process takes part."""
        evaluation = running.stage.evaluation
        if evaluation is None:
            return
        running.share_buffers()
        running.learner.eval()
        with running.averaged():
            figures = dict(evaluation.run())
            if evaluation.metric not in figures:
                raise ValueError(
                    f"the evaluation gives no {evaluation.metric!r}; expected one of "
                    f"{', '.join(figures)}"
                )
            value = figures[evaluation.metric]
            if value > running.best:
                running.best = value
                if self.accelerator.is_main_process:
                    evaluation.keep_best()
        running.learner.train()
        self.note(running.stage.name, done, figures)
        if self._logs is not None:
            LOGGER.info("%s %d: %s %.4f", running.stage.name, done, evaluation.metric, value)


def _diverged(stage: str, what: str, done: int) -> FloatingPointError:
    return FloatingPointError(
        f"{what} of {stage} is no finite number at step {done}; lower learning_rate, set "
        "max_gradient_norm, or compute in fp32 (the last checkpoint is from before)"
    )


def make_accelerator(precision: Precision, *, device: str = "auto") -> Accelerator:
    """What trains: the processes that ``accelerate launch`` or ``torchrun`` started, or this one.

    Args:
        precision: What networks compute in; weights stay in float32.
        device: ``auto`` takes a GPU where there is one, ``cpu`` none.
    """
    # a run of before in this process may have had another precision, which accelerate remembers
    AcceleratorState._reset_state()
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    return Accelerator(
        mixed_precision="no" if precision == "fp32" else precision,
        cpu=device == "cpu" or not has_gpu,
        # one process judges detections while the others wait
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )
