"""From a checkpoint file, original or our own, to a filled model; region prompts in and out."""

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from regionclip.checkpoints import LoadReport

from .model import Cora


@dataclass(frozen=True, slots=True)
class ReadCora:
    """A model and what became of its file.

    Attributes:
        model: Filled, in ``eval`` mode.
        report: What was loaded.
    """

    model: Cora
    report: LoadReport


def read_model(path: str | Path) -> ReadCora:
    """Read a detector; it loads whole or not at all. Of an original, its averaged weights."""
    raise NotImplementedError


def save_model(path: str | Path, model: Cora, **extra: str) -> None:
    """Write a model in the package's own format, with all that is needed to build it again."""
    raise NotImplementedError


def read_region_prompt(path: str | Path) -> Float[Tensor, "T F"]:
    """Read a region prompt from the original's file of one tensor, or from a whole checkpoint."""
    raise NotImplementedError


def save_region_prompt(path: str | Path, prompt: Float[Tensor, "T F"]) -> None:
    """Write a region prompt as the original does: a dictionary of one tensor."""
    raise NotImplementedError
