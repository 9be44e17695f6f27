"""The engine that every kind of training runs on: steps, schedules, checkpoints, logs, averages."""

from .engine import Bookkeeping, Progress, Trainer
from .optimization import Optimization
from .running_stage import Evaluation, Stage

__all__ = ["Bookkeeping", "Evaluation", "Optimization", "Progress", "Stage", "Trainer"]
