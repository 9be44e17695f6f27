"""The engine that every kind of training runs on: steps, schedules, checkpoints, logs, averages."""

from .engine import Evaluation, Progress, Stage, Trainer
from .optimization import Optimization

__all__ = ["Evaluation", "Optimization", "Progress", "Stage", "Trainer"]
