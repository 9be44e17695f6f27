"""What CLIPSelf and CLIM do to a vision transformer's map: the papers' comparisons, on icons.

    python -m examples.clipself_on_icons --seeds 3

Every row starts from the same tower per seed: a small CLIP with a vision transformer that has seen
close-ups of icons with a caption each, and names them by its class token. Of its map nothing was
asked, so in scenes, which it never saw, it names few icons by what lies in their boxes. CLIPSelf
teaches the map from scenes alone, without a word about them: from cells of grids, or from boxes of
the proposal network that ships, which has learned from base classes. CLIM teaches it from other
close-ups with captions, laid side by side in mosaics, or each by itself. Measured are, in new
scenes, how many boxes and masks get their own name (the mean of the classes' shares), then AP50 of
F-ViT, a detector that learns from boxes of base classes on top of each frozen tower. A run that was
interrupted goes on where it stopped; runs go side by side in several processes. Writes a table in
Markdown.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from examples.forgetting_on_icons import draw_data
from examples.measured_once import Figures, claim, known, publish, study_parser, table_of

import regionclip
from regionclip.data.icons.coco import PANOPTIC, write_close_ups, write_panoptic
from regionclip.data.readers import open_dataset
from regionclip.evaluation.class_means import evaluate_boxes, evaluate_crops, evaluate_masks
from regionclip.evaluation.finding import data_vocabulary, detect_dataset, find_proposals
from regionclip.evaluation.naming_regions import name_boxes, name_crops, name_masks
from regionclip.evaluation.processes import Processes
from regionclip.evaluation.report import EvaluationReport, mean_of
from regionclip.evaluation.watching import Watch, watched
from regionclip.recipes import read_recipe
from regionclip.train import train
from regionclip.training.checkpoints import MODEL

Run = tuple[str, int]
"""A row's name and a seed; ``fvit-`` before the name is a detector on top of it."""
PLAIN, BOTH, DETECTOR = "plain", "both", "fvit-"
TITLES = {
    PLAIN: "plain ViT",
    "patches": "CLIPSelf, image patches",
    "proposals": "CLIPSelf, proposals",
    "singles": "CLIM, single images",
    "mosaics": "CLIM, mosaics",
    BOTH: "CLIM, mosaics, then CLIPSelf, proposals",
}
REGIONS = {"patches": "patches", "proposals": "proposals", BOTH: "proposals"}
"""What CLIPSelf's rows distil."""
PROTOCOLS = {
    "box": (name_boxes, evaluate_boxes),
    "mask": (name_masks, evaluate_masks),
    "crop": (name_crops, evaluate_crops),
}
COLUMNS = {
    "boxes, all": "box_all",
    "base": "box_base",
    "novel": "box_novel",
    "masks, all": "mask_all",
    "masks, base": "mask_base",
    "masks, novel": "mask_novel",
    "crops, all": "crop_all",
}
DETECTOR_COLUMNS = {
    "novel AP50": "ap50_novel",
    "base AP50": "ap50_base",
    "all AP50": "ap50_all",
}
CLOSE_UP = 40
"""Pixels a side of captioned images, as the recipe of the start has them."""
IMAGES_PER_SET = 16
"""Of CLIM: a mosaic of 2 x 2 and one of 3 x 3 tiles, and three images that stay single."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """Where everything is, and how long each run takes."""

    folder: Path
    start: Path | None
    """A model that has seen captions only, for all seeds; ``None`` trains one per seed."""
    caption_steps: int
    steps: int
    detector_steps: int
    side: int
    """Pixels of the square that scenes and mosaics are seen in."""

    @property
    def data(self) -> Path:
        """Scenes, drawn before."""
        return self.folder / "data"

    @property
    def boxes(self) -> Path:
        """Scenes to train on, with boxes of base classes; CLIPSelf looks at the pictures alone."""
        return self.data / "train" / "instances_train.json"

    @property
    def proposals(self) -> Path:
        """Boxes of the training scenes by the proposal network that ships."""
        return self.data / "proposals.json"

    @property
    def captions(self) -> Path:
        """Close-ups with captions, drawn before."""
        return self.data / "captioned" / "captions.json"

    def captioned(self, seed: int) -> Path:
        """A CLIP that has seen captioned close-ups only; trained at the first call."""
        if self.start is not None:
            return self.start
        folder = self.folder / f"{PLAIN}-{seed}"
        settings = [
            f"run.seed={seed}",
            f"captions.steps={self.caption_steps}",
            f"model.longest_side={self.side}",
        ]
        weights = folder / MODEL
        return weights if weights.exists() else train(read_recipe("icons-vit", settings), folder)

    def weights(self, row: str, seed: int) -> Path:
        """The tower that a row is about; trained at the first call."""
        if row == PLAIN:
            return self.captioned(seed)
        folder = self.folder / f"{row}-{seed}"
        if (folder / MODEL).exists():
            return folder / MODEL
        if row in REGIONS:
            return train(read_recipe("clipself-small", self.of_clipself(row, seed)), folder)
        return train(read_recipe("clim-small", self.of_clim(row, seed)), folder)

    def of_clipself(self, row: str, seed: int) -> list[str]:
        """Settings of a run on scenes. Crops are seen by the start, also of a row that goes on."""
        start = self.weights("mosaics" if row == BOTH else PLAIN, seed)
        is_grid = REGIONS[row] == "patches"
        regions = (
            ["grid.max_split=4", "grid.max_regions=8"]
            if is_grid
            else ["grid=none", "boxes.max_regions=8"]
        )
        return [
            f"start={start}",
            f"teacher={self.captioned(seed)}",
            f"image_side={self.side}",
            f"data.train={self.boxes.parent / 'images' if is_grid else self.proposals}",
            f"data.image_root={'none' if is_grid else self.boxes.parent / 'images'}",
            *regions,
            *self.of_towers(seed, batch_size=8),
        ]

    def of_clim(self, row: str, seed: int) -> list[str]:
        """Settings of a run on captioned close-ups; the same images and as many in both rows."""
        sides, pixels = ("[2, 3]", self.side) if row == "mosaics" else ("[1]", CLOSE_UP)
        return [
            f"start={self.captioned(seed)}",
            f"data.train={self.captions}",
            f"learner.mosaic_sides={sides}",
            f"learner.mosaic_pixels={pixels}",
            f"learner.images_per_set={IMAGES_PER_SET}",
            f"augmentation.side={CLOSE_UP}",
            *self.of_towers(seed, batch_size=4 * IMAGES_PER_SET),
        ]

    def of_towers(self, seed: int, *, batch_size: int) -> list[str]:
        """What all rows share: a small tower wants larger steps than the published ones."""
        return [
            "weight_ensemble=none",
            "learner.unlocked_groups=4",
            f"optimization.steps={self.steps}",
            f"optimization.batch_size={batch_size}",
            "optimization.learning_rate=1e-3",
            f"optimization.warmup_steps={self.steps // 10}",
            "run.precision=fp32",
            "run.num_workers=0",
            "run.checkpoint_every=100",
            f"run.seed={seed}",
        ]

    def detector(self, row: str, seed: int) -> Path:
        """The weights of an F-ViT on the frozen tower of a row."""
        folder = self.folder / f"{DETECTOR}{row}-{seed}"
        images = self.boxes.parent / "images"
        settings = [
            f"start={self.weights(row, seed)}",
            f"data.train={self.boxes}",
            f"data.image_root={images}",
            "data.val=",
            "model.token_blocks=[0, 1, 2, 3]",
            "model.channels=32",
            "model.head_width=64",
            "model.mean=[0.5, 0.5, 0.5]",
            "model.std=[0.25, 0.25, 0.25]",
            f"model.image_size={self.side}",
            "model.templates=photo",
            "model.proposals.pre_nms_topk=200",
            "model.proposals.post_nms_topk=50",
            "model.selection.min_score=0.001",
            "learner.regions_per_image=64",
            f"augmentation.shortest_sides=[{self.side}]",
            f"augmentation.longest_side={self.side}",
            "augmentation.factors=[0.8, 1.25]",
            # a mirrored icon may be none that has a name
            "augmentation.flip_share=0.0",
            f"optimization.steps={self.detector_steps}",
            "optimization.batch_size=8",
            "optimization.learning_rate=1e-3",
            f"optimization.warmup_steps={self.detector_steps // 10}",
            "optimization.schedule=cosine",
            "run.precision=fp32",
            "run.num_workers=0",
            "run.checkpoint_every=100",
            f"run.seed={seed}",
        ]
        return train(read_recipe("fvlm-ov-coco-vitb16", settings), folder)

    def known(self, run: Run) -> Figures:
        """Figures of a row, or of a detector on it; measured once."""
        name, seed = run
        row = name.removeprefix(DETECTOR)
        measure = self.named if name == row else self.detected
        return known(self.folder, f"{name}-{seed}", lambda: measure(row, seed))

    def named(self, row: str, seed: int) -> Figures:
        """Shares of true boxes, masks, and boxes as pictures of their own, that are named right."""
        detector = regionclip.load(str(self.weights(row, seed)))
        dataset = open_dataset(
            str(self.data / "val" / PANOPTIC), image_root=self.data / "val" / "images"
        )
        vocabulary = data_vocabulary(detector, dataset)
        figures: Figures = {}
        for what, (find, evaluate) in PROTOCOLS.items():
            found = detect_dataset(detector, dataset, vocabulary, find=find)
            figures |= by_split(what, evaluate(dataset, found))
        return figures

    def detected(self, row: str, seed: int) -> Figures:
        """Figures of the detector in the test scenes."""
        base = open_dataset(str(self.boxes), image_root=self.boxes.parent / "images")
        val = self.data / "val"
        scenes = open_dataset(str(val / "instances_val.json"), image_root=val / "images")
        watch = Watch(watched(scenes, base.class_names), Processes(0, 1))
        return watch.detection_figures(regionclip.load(str(self.detector(row, seed))))

    def draw(self, num_scenes: int, num_captioned: int, rows: Sequence[str]) -> None:
        """Scenes to learn from and to measure on, and what else the rows need."""
        draw_data(self.data, num_scenes)
        if not (self.data / "val" / PANOPTIC).exists():
            # the seed of the scenes that are there
            write_panoptic(self.data / "val", num_scenes=num_scenes // 4, seed=71)
        if not self.captions.exists():
            folder = self.captions.parent
            write_close_ups(folder, num_images=num_captioned, seed=90, size=CLOSE_UP, split="train")
        wants_proposals = any(REGIONS.get(row) == "proposals" for row in rows)
        if wants_proposals and not self.proposals.exists():
            self.proposals.write_text(json.dumps(self.proposed()))

    def proposed(self) -> dict[str, Any]:
        """Boxes of the training scenes, by the proposal network of the model that ships."""
        detector = regionclip.load("icons")
        content = json.loads(self.boxes.read_text())
        dataset = open_dataset(str(self.boxes), image_root=self.boxes.parent / "images")
        rows = []
        found = detect_dataset(detector, dataset, None, find=find_proposals)
        for sample, own in zip(dataset, found, strict=True):
            rows += own.to_coco(sample.image_id)
        boxes = [
            row | {"id": number, "iscrowd": 0, "area": row["bbox"][2] * row["bbox"][3]}
            for number, row in enumerate(rows, start=1)
        ]
        categories = [{"id": 1, "name": "object"}]
        return {"images": content["images"], "annotations": boxes, "categories": categories}


def by_split(what: str, report: EvaluationReport) -> Figures:
    """Means of the classes' shares: of all classes, of base and of novel ones."""
    return {
        f"{what}_{split}": mean_of(
            [
                each.metrics["top1"]
                for each in report.classes
                if each.num_boxes and split in ("all", each.split)
            ]
        )
        for split in ("all", "base", "novel")
    }


def main() -> None:
    """Train, measure, tabulate."""
    options = parser().parse_args()
    study = Study(
        folder=options.output,
        start=options.start,
        caption_steps=options.caption_steps,
        steps=options.steps,
        detector_steps=options.detector_steps,
        side=options.side,
    )
    claim(options, free=("rows", "detector_seeds", "processes", "threads"))
    rows = [row for row in TITLES if row in options.rows]
    study.draw(options.scenes, options.captioned, rows)
    runs = [(row, seed) for seed in range(options.seeds) for row in rows]
    detectors = [(f"{DETECTOR}{row}", seed) for row, seed in runs if seed < options.detector_seeds]
    if options.processes == 1:
        carry_out(study, runs, detectors, map)
    else:
        limits = torch.set_num_threads, (options.threads,)
        with ProcessPoolExecutor(options.processes, get_context("spawn"), *limits) as processes:
            carry_out(study, runs, detectors, processes.map)
    named, detected = (
        {TITLES[row]: [study.known(run) for run in own if run[0].endswith(row)] for row in rows}
        for own in (runs, detectors)
    )
    lines = [
        *table_of("naming of given regions", named, COLUMNS),
        "",
        *table_of("F-ViT on top of it", detected, DETECTOR_COLUMNS),
    ]
    publish(study.folder, lines)


def carry_out(
    study: Study,
    runs: Sequence[Run],
    detectors: Sequence[Run],
    mapped: Callable[..., Iterable[Any]],
) -> None:
    """One stage after another: what comes later needs what came before."""
    list(mapped(study.captioned, sorted({seed for _, seed in runs})))
    list(mapped(study.known, [run for run in runs if run[0] != BOTH]))
    list(mapped(study.known, [run for run in runs if run[0] == BOTH]))
    list(mapped(study.known, detectors))


def parser() -> argparse.ArgumentParser:
    """What may be told on the command line."""
    about = "Measure what CLIPSelf and CLIM are worth, on icons."
    parser = study_parser(about, output="runs/clipself")
    parser.add_argument("--rows", nargs="+", default=[*TITLES], help="those wanted")
    parser.add_argument("--start", type=Path, help="a caption-trained model, instead of one a seed")
    parser.add_argument("--caption-steps", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=400, help="of CLIPSelf's and CLIM's runs")
    parser.add_argument("--detector-steps", type=int, default=200)
    parser.add_argument("--detector-seeds", type=int, default=3, help="seeds with detectors")
    parser.add_argument("--scenes", type=int, default=400, help="to train on; a quarter to test on")
    parser.add_argument("--captioned", type=int, default=3000, help="close-ups for CLIM")
    parser.add_argument("--side", type=int, default=112, help="pixels of a scene and of a mosaic")
    parser.add_argument("--processes", type=int, default=1, help="runs side by side")
    parser.add_argument("--threads", type=int, default=1, help="of each of several processes")
    return parser


if __name__ == "__main__":
    main()
