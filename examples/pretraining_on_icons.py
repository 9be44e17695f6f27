"""What region-text pretraining is worth: RegionCLIP's ablations, on icons.

    python -m examples.pretraining_on_icons --seeds 3

Every row starts from the same model per seed, which has seen captioned images of icons and not one
box. The scenes are small, so that icons in them are smaller than it has learned to read, as objects
in photographs are smaller than the images that CLIP learned from. It is pretrained on scenes with
captions alone; its teacher is the same model, which looks at the scenes at twice the size and so
knows more of their regions. What the teacher sees is computed once and stored. Measured are, in new
scenes, how many true boxes get their own name, and AP50 of the boxes of a proposal network, for
all, base and novel classes; then what the models give after transfer learning on boxes of base
classes. A run that was interrupted goes on where it stopped; runs go side by side in several
processes. Writes a table in Markdown.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from examples.forgetting_on_icons import draw_data, fine_tune
from examples.measured_once import Figures, claim, known, publish, study_parser, table_of

import regionclip
from regionclip.cli import main as command
from regionclip.data.icons.coco import write_coco
from regionclip.detect import Detector
from regionclip.evaluation.icons import evaluate_icons
from regionclip.recipes import read_recipe
from regionclip.train import train
from regionclip.training.checkpoints import MODEL

Run = tuple[str, int]
"""A row's letter, or ``transfer-`` and the letter, and a seed."""
LONGEST_SIDE = 512
"""Pixels; no scene is so large."""
REGIONS = 10
"""Of each scene; it has three or four icons on average."""
FIGURES = ("named_all", "named_base", "named_novel", "ap50_all", "ap50_base", "ap50_novel")
TRANSFER_FIGURES = ("ap50_novel", "ap50_base", "ap50_all")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to pretrain."""

    title: str
    losses: tuple[str, ...] = ("image_text", "distillation", "contrastive")
    proposals: str = "icons"
    teacher: str = "captioned"
    pool: str = "captions"
    is_repeated: bool = False
    """With every seed; else with the first alone."""


START, PRETRAINED = "a", "b"
ROWS = {
    "b": Row(title="pretrained", is_repeated=True),
    "c": Row(title="without distillation", losses=("image_text", "contrastive"), is_repeated=True),
    "d": Row(title="without the contrastive term", losses=("image_text", "distillation")),
    "e": Row(title="without the image-text term", losses=("distillation", "contrastive")),
    "f": Row(title="random regions", proposals="random", is_repeated=True),
    "g": Row(title="a larger teacher", teacher="larger"),
    "h": Row(title="a foreign pool (LVIS)", pool="lvis1203"),
}
TEACHER, LARGER_TEACHER = "t", "l"
TITLES = {
    START: "captions alone",
    TEACHER: "its teacher: the same, on larger scenes",
    LARGER_TEACHER: "the larger teacher, on larger scenes",
    **{letter: row.title for letter, row in ROWS.items()},
}


@dataclass(frozen=True, kw_only=True)
class Study:
    """Where everything is, and how long each run takes."""

    folder: Path
    start: Path | None
    """A model that has seen captions only, for all seeds; ``None`` trains one per seed."""
    caption_steps: int
    steps: int
    test_scenes: int
    transfer_steps: int
    shortest_side: int
    """Pixels of the scenes that students and tests see."""
    teacher_side: int
    """Pixels of the scenes that teachers see."""

    @property
    def captions(self) -> Path:
        """Scenes with captions, drawn before."""
        return self.folder / "captioned" / "captions.json"

    @property
    def boxes(self) -> Path:
        """Scenes with boxes, drawn before."""
        return self.folder / "boxes"

    def captioned(self, seed: int, *, is_large: bool = False) -> Path:
        """A model that has seen captioned images only."""
        if self.start is not None and not is_large:
            return self.start
        settings = [
            f"run.seed={seed}",
            f"captions.steps={self.caption_steps}",
            "caption_image_sizes=[64, 64, 96, 96]",
            f"model.shortest_side={self.shortest_side}",
            "regions=none",
            "pretraining=none",
            "model.rpn=none",
        ]
        settings += ["model.encoder.width=32", "model.encoder.name=larger"] if is_large else []
        folder = self.folder / f"{'larger' if is_large else 'captioned'}-{seed}"
        weights = folder / MODEL
        # not again: a finished run writes its file anew, and what was made with it would be refused
        return weights if weights.exists() else train(read_recipe("icons", settings), folder)

    def pool_file(self, run: Run) -> Path:
        """Where a row's concepts are; rows that differ in other things share them."""
        row = ROWS[run[0]]
        return self.folder / f"pool-{row.pool}-{row.teacher}-{run[1]}.safetensors"

    def pool(self, run: Run) -> Path:
        """Concepts by the text towers of student and teacher; made at the first call."""
        row, seed = ROWS[run[0]], run[1]
        path = self.pool_file(run)
        if not path.exists():
            source = str(self.captions) if row.pool == "captions" else row.pool
            options = ["--student", str(self.captioned(seed)), "--output", str(path)]
            options += ["--teacher", str(self.teacher(row, seed)), "--device", "cpu"]
            if command(["concepts", "build", source, *options]) != 0:
                raise SystemExit(f"no pool for {row}")
        return path

    def stored_folder(self, run: Run) -> Path:
        """What a row's teacher sees is here; rows with the same teacher and regions share it."""
        row = ROWS[run[0]]
        return self.folder / f"regions-{row.proposals}-{row.teacher}-{run[1]}"

    def stored(self, run: Run) -> Path:
        """Regions of the captioned scenes with the teacher's vectors; goes on where it stopped."""
        row, seed = ROWS[run[0]], run[1]
        path = self.stored_folder(run)
        sides = ["--shortest-side", str(self.teacher_side), "--longest-side", str(LONGEST_SIDE)]
        options = ["--proposals", row.proposals, "--max-proposals", str(REGIONS), *sides]
        options += ["--teacher", str(self.teacher(row, seed)), "--output", str(path)]
        if command(["propose", str(self.captions), *options, "--device", "cpu"]) != 0:
            raise SystemExit(f"no regions for {row}")
        return path

    def teacher(self, row: Row, seed: int) -> Path:
        """What matches regions to concepts."""
        return self.captioned(seed, is_large=row.teacher == "larger")

    def weights(self, letter: str, seed: int) -> Path:
        """The model that a row is about; trained at the first call."""
        if letter not in ROWS:
            return self.captioned(seed, is_large=letter == LARGER_TEACHER)
        row = ROWS[letter]
        settings = [
            f"start={self.captioned(seed)}",
            "teacher=stored",
            f"concepts={self.pool((letter, seed))}",
            f"data.train={self.captions}",
            f"data.proposals={self.stored_folder((letter, seed))}",
            f"learner.losses={json.dumps(row.losses)}",
            "learner.freeze_at=0",
            f"learner.regions_per_image={REGIONS}",
            f"augmentation.shortest_sides=[{self.shortest_side}]",
            f"augmentation.longest_side={LONGEST_SIDE}",
            "augmentation.flip_share=0.0",
            f"optimization.steps={self.steps}",
            "optimization.batch_size=16",
            "optimization.optimizer=adamw",
            "optimization.learning_rate=5e-4",
            "optimization.weight_decay=0.05",
            "optimization.vector_weight_decay=0.0",
            "optimization.warmup_steps=20",
            "optimization.schedule=cosine",
            "optimization.milestones=[]",
            "optimization.max_gradient_norm=1.0",
            "optimization.gradient_norm_of=all",
            "optimization.ema_decay=none",
            "run.precision=fp32",
            "run.checkpoint_every=50",
            "run.num_workers=1",
            f"run.seed={seed}",
        ]
        folder = self.folder / f"{letter}-{seed}"
        return train(read_recipe("regionclip-pretrain-small", settings), folder)

    def known(self, run: Run) -> Figures:
        """Figures of a row, or of a row after transfer learning; measured once."""
        name, seed = run
        measure = self.transferred if name.startswith("transfer-") else self.measured
        return known(self.folder, f"{name}-{seed}", lambda: measure(name[-1], seed))

    def measured(self, letter: str, seed: int) -> Figures:
        """Figures of a row in new scenes, with the proposals of the model that ships."""
        detector = regionclip.load(self.weights(letter, seed), proposals="icons")
        if letter in (TEACHER, LARGER_TEACHER):
            parts = replace(
                detector.parts, shortest_side=self.teacher_side, longest_side=LONGEST_SIDE
            )
            detector = Detector(parts, detector.defaults)
        return dict(evaluate_icons(detector, num_scenes=self.test_scenes, seed=73).metrics)

    def transferred(self, letter: str, seed: int) -> Figures:
        """Figures of a row after transfer learning."""
        sides = (self.shortest_side * 7 // 8, self.shortest_side)
        changes = (
            f"start={self.weights(letter, seed)}",
            "proposals=icons",
            f"shortest_side={self.shortest_side}",
            f"augmentation.shortest_sides={list(sides)}",
            "learner.classification_loss=focal_scaled",
            "learner.focal_gamma=0.5",
            "run.precision=fp32",
        )
        folder = self.folder / f"transfer-{letter}-{seed}"
        return fine_tune(self.boxes, folder, seed, self.transfer_steps, changes)[1]


def main() -> None:
    """Train, measure, tabulate."""
    options = parser().parse_args()
    study = Study(
        folder=options.output,
        start=options.start,
        caption_steps=options.caption_steps,
        steps=options.steps,
        test_scenes=options.test_scenes,
        transfer_steps=options.transfer_steps,
        shortest_side=options.shortest_side,
        teacher_side=options.teacher_side,
    )
    claim(options, free=("rows", "processes", "threads"))
    if not study.captions.exists():
        write_coco(study.captions.parent, num_scenes=options.scenes, seed=80)
    draw_data(study.boxes, options.transfer_scenes)
    runs = [
        (letter, seed)
        for seed in range(options.seeds)
        for letter in (START, TEACHER, *options.rows)
        if letter not in ROWS or ROWS[letter].is_repeated or seed == 0
    ]
    if "g" in options.rows:
        runs.append((LARGER_TEACHER, 0))
    transfers = [(f"transfer-{letter}", seed) for letter, seed in runs if letter in "ab"]
    if options.processes == 1:
        carry_out(study, runs, transfers, map)
    else:
        limits = torch.set_num_threads, (options.threads,)
        with ProcessPoolExecutor(options.processes, get_context("spawn"), *limits) as processes:
            carry_out(study, runs, transfers, processes.map)
    lines = tables({run: study.known(run) for run in runs + transfers})
    publish(study.folder, lines)


def carry_out(
    study: Study,
    runs: Sequence[Run],
    transfers: Sequence[Run],
    mapped: Callable[..., Iterable[Any]],
) -> None:
    """One stage after another: what comes later needs what came before."""
    list(mapped(study.captioned, sorted({seed for _, seed in runs})))
    rows = [(letter, seed) for letter, seed in runs if letter in ROWS]
    list(mapped(study.pool, {study.pool_file(run): run for run in rows}.values()))
    list(mapped(study.stored, {study.stored_folder(run): run for run in rows}.values()))
    list(mapped(study.known, runs))
    list(mapped(study.known, transfers))


def parser() -> argparse.ArgumentParser:
    """What may be told on the command line."""
    about = "Measure what pretraining is worth, on icons."
    parser = study_parser(about, output="runs/pretraining")
    about_rows = "letters of the rows wanted, besides a and t; g brings l"
    parser.add_argument("--rows", default="bcdefgh", help=about_rows)
    parser.add_argument("--start", type=Path, help="a caption-trained model, instead of one a seed")
    parser.add_argument("--caption-steps", type=int, default=800)
    parser.add_argument("--steps", type=int, default=150, help="of each pretraining run")
    parser.add_argument("--scenes", type=int, default=2000, help="with captions, to pretrain on")
    parser.add_argument("--test-scenes", type=int, default=100)
    parser.add_argument("--transfer-steps", type=int, default=100)
    parser.add_argument("--transfer-scenes", type=int, default=200, help="with boxes")
    parser.add_argument("--shortest-side", type=int, default=128, help="pixels, students and tests")
    parser.add_argument("--teacher-side", type=int, default=256, help="pixels, teachers")
    parser.add_argument("--processes", type=int, default=1, help="runs side by side")
    parser.add_argument("--threads", type=int, default=1, help="of each of several processes")
    return parser


def tables(found: Mapping[Run, Figures]) -> list[str]:
    """One of the models, one of what transfer learning makes of them."""
    models: dict[str, list[Figures]] = {}
    after: dict[str, list[Figures]] = {}
    for (name, _), figures in found.items():
        title = f"({name[-1]}) {TITLES[name[-1]]}"
        if name.startswith("transfer-"):
            after.setdefault(f"transfer from {title}", []).append(figures)
        else:
            models.setdefault(title, []).append(figures)
    columns, columns_after = ({each: each for each in own} for own in (FIGURES, TRANSFER_FIGURES))
    return [*table_of("row", models, columns), "", *table_of("row", after, columns_after)]


if __name__ == "__main__":
    main()
