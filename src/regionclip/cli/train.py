"""``regionclip train``: a recipe to weights."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tyro.conf import Positional, UseAppendAction, arg

from regionclip.cli.console import console, errors, print_table
from regionclip.cli.options import optional, value

YOLO_SUFFIXES = (".yaml", ".yml")
"""Of files that tell of several splits."""
NUM_FIGURES = 6
"""Columns of the table of measurements; metrics.jsonl has all figures."""


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a detector from a recipe; an interrupted run goes on where it stopped.

    A recipe is a TOML file, or one that ships with the package: finetune (your own data), proposals
    (a proposal network), regionclip-pretrain-small and clim-small (images with captions),
    clipself-small (images alone), pseudo-labels-small (boxes), regionclip-ov-coco-rn50,
    cora-ov-coco-rn50, clipself-coco-vitb16, fvit-ov-coco-vitb16, detic-ov-coco-r50 and their likes
    (the published runs), icons.

    For example:

        regionclip train finetune --data my_data --set start=openai:RN50

        regionclip train my_recipe.toml --set optimization.steps=500 --output runs/short

        torchrun --nproc-per-node 4 -m regionclip train finetune --data my_data
    """

    recipe: Annotated[Positional[str], arg(metavar="RECIPE")]
    """A recipe's file, or the name of one that ships with the package."""
    data: Annotated[str | None, optional("FOLDER|FILE")] = None
    """Data set to train and measure on, its splits train and val; the same as data.train and
    data.val in the recipe. A single annotation file is trained on, and nothing is measured; nor is
    anything on captions, or on images alone (CLIPSelf)."""
    set: Annotated[UseAppendAction[tuple[str, ...]], value("KEY=VALUE")] = ()
    """Another value for one of the recipe's settings, as often as you like:
    optimization.batch_size=8."""
    output: Annotated[Path | None, optional("FOLDER")] = None
    """For weights, checkpoints and logs; by default ``runs/`` and the recipe's name."""
    device: Literal["auto", "cpu"] = "auto"
    """auto takes a GPU if there is one."""
    tensorboard: bool = False
    """Also write TensorBoard's files (extra [track])."""
    resume: bool = True
    """Go on with what the output folder has. --no-resume deletes its run first."""

    def run(self) -> int:
        """Train, print what was measured, and say where the weights are."""
        from regionclip.recipes import read_recipe, recipe_file
        from regionclip.train import train
        from regionclip.training.engine import make_accelerator

        recipe = read_recipe(self.recipe, (*self._data_settings(), *self.set))
        folder = self.output or Path("runs") / recipe_file(self.recipe).stem
        accelerator = make_accelerator(recipe.run.precision, device=self.device)
        is_main = accelerator.is_main_process
        log = folder / "train.log"
        with _logged_to(log) if is_main else nullcontext(), StageProgress(is_main) as progress:
            weights = train(
                recipe,
                folder,
                accelerator=accelerator,
                resume=self.resume,
                tensorboard=self.tensorboard,
                progress=progress.step,
            )
        if is_main:
            print_measurements(folder / "metrics.jsonl")
            console.print(f"weights in {weights}, log in {log}", markup=False, soft_wrap=True)
        return 0

    def _data_settings(self) -> tuple[str, ...]:
        if self.data is None:
            return ()
        from regionclip.recipes import PretrainRecipe, recipe_task
        from regionclip.recipes.clim import ClimRecipe, ClipSelfRecipe

        train = f"data.train={json.dumps(self.data)}"
        if recipe_task(self.recipe) in (PretrainRecipe.task, ClimRecipe.task, ClipSelfRecipe.task):
            return (train,)  # measured on boxes, which captions and images alone are none of
        is_one_split = Path(self.data).is_file() and Path(self.data).suffix not in YOLO_SUFFIXES
        return (train,) if is_one_split else (train, f"data.val={json.dumps(self.data)}")


class StageProgress:
    """One bar per stage, with the loss; silent where standard error is no terminal."""

    def __init__(self, is_shown: bool = True) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            console=errors,
            disable=not (errors.is_terminal and is_shown),
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


def print_measurements(path: Path) -> None:
    """Print what was measured when: what was gained, and what was forgotten."""
    measured = [each for each in _entries(path) if "evaluation" in each]
    if not measured:
        return
    figures = _shown_figures(list(measured[-1]["evaluation"]))
    rows = [
        (
            each["stage"],
            str(each["step"]),
            *(_percent(each["evaluation"].get(figure)) for figure in figures),
        )
        for each in measured
    ]
    print_table("Measured while training (%)", ("stage", "step", *figures), rows)


def _shown_figures(names: list[str]) -> list[str]:
    """The first ones, those of base and novel classes before others."""
    of_splits = [name for name in names if name.endswith(("_novel", "_base", "_all"))]
    return [*names[:2], *(name for name in of_splits if name not in names[:2])][:NUM_FIGURES]


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


@contextmanager
def _logged_to(path: Path) -> Iterator[None]:
    """Write the library's messages to a file while the block runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
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
