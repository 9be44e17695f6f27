"""``regionclip train``: a recipe to weights."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tyro.conf import Positional, arg

from regionclip.cli.console import console, errors


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a detector from a recipe; an interrupted run goes on where it stopped.

    For example:

        regionclip train recipes/icons.toml

        regionclip evaluate runs/icons/model.safetensors
    """

    recipe: Annotated[Positional[Path], arg(metavar="RECIPE.toml")]
    """What to train, on what, for how long."""
    output: Path | None = None
    """Folder for ``model.safetensors``, checkpoints and ``train.log``; by default ``runs/`` and
    the recipe's name. Remove it to start anew."""

    def run(self) -> int:
        """Train and say where the weights are."""
        from regionclip.train import read_recipe, train

        recipe = read_recipe(self.recipe)
        folder = Path("runs") / self.recipe.stem if self.output is None else self.output
        folder.mkdir(parents=True, exist_ok=True)
        weights, log = folder / "model.safetensors", folder / "train.log"
        with _logged_to(log), StageProgress() as progress:
            train(recipe, weights, work_dir=folder / "checkpoints", progress=progress.step)
        console.print(f"weights in {weights}, log in {log}")
        return 0


class StageProgress:
    """One bar per stage, with the loss; silent where standard error is no terminal."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            console=errors,
            disable=not errors.is_terminal,
        )
        self._bars: dict[str, int] = {}

    def __enter__(self) -> "StageProgress":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def step(self, stage: str, done: int, total: int, loss: float) -> None:
        """Show that ``done`` of a stage's ``total`` steps are done."""
        if stage not in self._bars:
            self._bars[stage] = self._progress.add_task(stage, total=total, loss=loss)
        bar = self._progress.tasks[self._bars[stage]].id
        self._progress.update(bar, completed=done, loss=loss)


@contextmanager
def _logged_to(path: Path) -> Iterator[None]:
    """Write the library's messages to a file while the block runs."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("regionclip")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
