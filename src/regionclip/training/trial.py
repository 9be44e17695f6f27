"""What a step costs, tried before a run begins: time and memory, without learning anything."""

import resource
import sys
from dataclasses import dataclass
from itertools import islice
from statistics import median
from time import monotonic

import torch
from accelerate import Accelerator
from torch import nn

from .optimization import Optimization
from .running_stage import Stage


@dataclass(frozen=True, slots=True)
class Trial:
    """What a step of a stage takes.

    Attributes:
        seconds: Per step, waiting for its images included, averaging of gradients over processes
            not.
        peak_memory_mb: Of the GPU, or of this process.
    """

    seconds: float
    peak_memory_mb: float


def try_stage(stage: Stage, accelerator: Accelerator, *, num_parts: int = 4) -> Trial:
    """Compute losses and gradients of a stage's first batches, and throw them away.

    Every process has to take part. The first part is not timed: it starts readers and fills
    caches.

    Args:
        stage: Its learner is moved to the device. Its parameters and buffers are the same
            afterwards, such as the statistics of its batch norms; what else it remembers is not.
        accelerator: Device and precision.
        num_parts: Parts of steps to try, at least two.
    """
    learner = stage.learner.to(accelerator.device).train()
    before = [buffer.clone() for buffer in learner.buffers()]
    times = []
    since = monotonic()
    for batch in islice(stage.batches(0), num_parts):
        with accelerator.autocast():
            losses = learner(batch)
        torch.stack([loss.mean() for loss in losses.values()]).sum().backward()
        if accelerator.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(monotonic() - since)
        since = monotonic()
    learner.zero_grad(set_to_none=True)
    with torch.no_grad():
        for buffer, value in zip(learner.buffers(), before, strict=True):
            buffer.copy_(value)
    timed = times[1:] or times
    seconds = median(timed) * stage.optimization.accumulate if timed else 0.0
    return Trial(seconds, peak_memory_mb())


def optimizer_bytes(learner: nn.Module, plan: Optimization) -> int:
    """What momentum, second moments and averaged weights take, in float32."""
    per_weight = (2 if plan.optimizer == "adamw" else 1) + (plan.ema_decay is not None)
    trained = sum(each.numel() for each in learner.parameters() if each.requires_grad)
    return 4 * per_weight * trained


def peak_memory_mb() -> float:
    """The most that the GPU has held so far, or this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
