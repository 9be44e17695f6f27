"""Learning with all parts as they compute at test time."""

from typing import TypeVar

from torch import nn

Learner = TypeVar("Learner", bound="EvalModeLearner")


class EvalModeLearner(nn.Module):
    """A learner whose parts compute as in ``eval`` mode also while it learns.

    Batch norms are constants then, and nothing is dropped.
    """

    def train(self: Learner, mode: bool = True) -> Learner:
        """Leave all parts in ``eval`` mode; the learner itself tells what was asked for."""
        super().train(False)
        self.training = mode
        return self
