"""What region-text pretraining is worth: RegionCLIP's ablations, on icons.

    python -m examples.pretraining_on_icons --seeds 3

Every row starts from the same model per seed, which has seen captioned images and not one box, and
is pretrained on scenes with captions alone. Measured are, in new scenes, how many true boxes get
their own name, and AP50 of the boxes of a proposal network, for all, base and novel classes; then
what the models give after transfer learning on boxes of base classes. A run that was interrupted
goes on where it stopped. Writes a table in Markdown.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from examples.forgetting_on_icons import draw_data, fine_tune, mean_and_spread

import regionclip
from regionclip.cli import main as command
from regionclip.data.icons.coco import write_coco
from regionclip.evaluation.icons import evaluate_icons
from regionclip.recipes import read_recipe
from regionclip.train import train

FIGURES = ("named_all", "named_base", "named_novel", "ap50_all", "ap50_base", "ap50_novel")
TRANSFER_FIGURES = ("ap50_novel", "ap50_base", "ap50_all")
TRANSFER_SCENES = 200


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to pretrain."""

    losses: tuple[str, ...] = ("image_text", "distillation", "contrastive")
    proposals: str = "icons"
    teacher: str = "captioned"
    pool: str = "captions"
    is_repeated: bool = False
    """With every seed; else with the first alone."""


ROWS = {
    "(b) pretrained": Row(is_repeated=True),
    "(c) without distillation": Row(losses=("image_text", "contrastive"), is_repeated=True),
    "(d) without the contrastive term": Row(losses=("image_text", "distillation")),
    "(e) without the image-text term": Row(losses=("distillation", "contrastive")),
    "(f) random regions": Row(proposals="random", is_repeated=True),
    "(g) a larger teacher": Row(teacher="larger"),
    "(h) a foreign pool": Row(pool="lvis1203"),
}
START, PRETRAINED = "(a) captions alone", "(b) pretrained"


@dataclass(frozen=True, kw_only=True)
class Study:
    """Where everything is, and how long each run takes."""

    folder: Path
    caption_steps: int
    steps: int
    scenes: int
    test_scenes: int
    transfer_steps: int

    @property
    def captions(self) -> Path:
        """Scenes with captions; drawn at the first call."""
        folder = self.folder / "captioned"
        if not (folder / "captions.json").exists():
            write_coco(folder, num_scenes=self.scenes, seed=80)
        return folder / "captions.json"

    def captioned(self, seed: int, *, is_large: bool = False) -> Path:
        """A model that has seen captioned images only."""
        settings = [
            f"run.seed={seed}",
            f"captions.steps={self.caption_steps}",
            "regions=none",
            "pretraining=none",
            "model.rpn=none",
        ]
        settings += ["model.encoder.width=32", "model.encoder.name=larger"] if is_large else []
        name = f"{'larger' if is_large else 'captioned'}-{seed}"
        return train(read_recipe("icons", settings), self.folder / name)

    def pool(self, row: Row, seed: int) -> Path:
        """Concepts by the text towers of student and teacher."""
        path = self.folder / f"pool-{row.pool}-{row.teacher}-{seed}.safetensors"
        if not path.exists():
            source = str(self.captions) if row.pool == "captions" else row.pool
            options = ["--student", str(self.captioned(seed)), "--output", str(path)]
            options += ["--teacher", str(self.teacher(row, seed)), "--device", "cpu"]
            if command(["concepts", "build", source, *options]) != 0:
                raise SystemExit(f"no pool for {row}")
        return path

    def teacher(self, row: Row, seed: int) -> Path:
        """What matches regions to concepts."""
        return self.captioned(seed, is_large=row.teacher == "larger")

    def pretrained(self, name: str, row: Row, seed: int) -> Path:
        """The weights that a row ends with."""
        settings = [
            f"start={self.captioned(seed)}",
            f"teacher={self.teacher(row, seed)}",
            "teacher_regions=crops",
            f"concepts={self.pool(row, seed)}",
            f"data.train={self.captions}",
            f"proposals={row.proposals}",
            f"learner.losses={json.dumps(row.losses)}",
            "learner.freeze_at=0",
            "learner.regions_per_image=20",
            "augmentation.shortest_sides=[256]",
            "augmentation.longest_side=512",
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
            "run.checkpoint_every=50",
            "run.num_workers=1",
            f"run.seed={seed}",
        ]
        folder = self.folder / f"{name[1]}-{seed}"
        return train(read_recipe("regionclip-pretrain-small", settings), folder)

    def figures(self, weights: Path) -> dict[str, float]:
        """Of new scenes, with the proposals of the model that ships."""
        detector = regionclip.load(weights, proposals="icons")
        return dict(evaluate_icons(detector, num_scenes=self.test_scenes, seed=73).metrics)

    def transferred(self, name: str, weights: Path, seed: int) -> dict[str, float]:
        """Figures after transfer learning."""
        data = draw_data(self.folder / "boxes", TRANSFER_SCENES)
        changes = (
            f"start={weights}",
            "proposals=icons",
            "learner.classification_loss=focal_scaled",
            "learner.focal_gamma=0.5",
        )
        folder = self.folder / f"transfer-{name[1]}-{seed}"
        return fine_tune(data, folder, seed, self.transfer_steps, changes)[1]


def main() -> None:
    """Train, measure, tabulate."""
    parser = argparse.ArgumentParser(description="Measure what pretraining is worth, on icons.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--caption-steps", type=int, default=600)
    parser.add_argument("--steps", type=int, default=200, help="of each pretraining run")
    parser.add_argument("--scenes", type=int, default=3000, help="with captions, to pretrain on")
    parser.add_argument("--test-scenes", type=int, default=100)
    parser.add_argument("--transfer-steps", type=int, default=150)
    parser.add_argument("--rows", default="abcdefgh", help="letters of the rows wanted")
    parser.add_argument("--output", type=Path, default=Path("runs/pretraining"))
    options = parser.parse_args()
    study = Study(
        folder=options.output,
        caption_steps=options.caption_steps,
        steps=options.steps,
        scenes=options.scenes,
        test_scenes=options.test_scenes,
        transfer_steps=options.transfer_steps,
    )
    results: dict[str, list[dict[str, float]]] = {}
    transferred: dict[str, list[dict[str, float]]] = {}
    for seed in range(options.seeds):
        weights = {START: study.captioned(seed)}
        for name, row in ROWS.items():
            if name[1] in options.rows and (row.is_repeated or seed == 0):
                weights[name] = study.pretrained(name, row, seed)
        for name, path in weights.items():
            results.setdefault(name, []).append(study.figures(path))
            if name in (START, PRETRAINED):
                figures = study.transferred(name, path, seed)
                transferred.setdefault(name, []).append(figures)
        write_tables(study.folder / "table.md", results, transferred)


def write_tables(
    path: Path,
    results: dict[str, list[dict[str, float]]],
    transferred: dict[str, list[dict[str, float]]],
) -> None:
    """What is known so far, printed and written."""
    names = sorted(results)
    lines = table_of({name: results[name] for name in names}, FIGURES)
    after = {f"transfer from {name}": rows for name, rows in transferred.items()}
    lines += ["", *table_of(after, TRANSFER_FIGURES)]
    path.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def table_of(results: dict[str, list[dict[str, float]]], figures: tuple[str, ...]) -> list[str]:
    """Mean and standard deviation over seeds, in percent."""
    lines = [f"| row | seeds | {' | '.join(figures)} |", "|---" * (2 + len(figures)) + "|"]
    for name, rows in results.items():
        cells = [mean_and_spread([row[figure] for row in rows]) for figure in figures]
        lines.append(f"| {name} | {len(rows)} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
