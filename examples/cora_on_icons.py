"""What CORA's two ideas are worth: region prompt and anchor pre-matching, on icons.

    python -m examples.cora_on_icons --seeds 3

Starts from the model that ships, frozen, on scenes so small that it names fewer icons in them than
it knows, as CLIP does with objects in photographs. On boxes of base classes it trains a region
prompt, then localisers, which name their boxes with it:

- ``told``: CORA's. Queries are told the class that CLIP sees under their anchors, and are paired
  with objects of that class, on labels that agree with CLIP.
- ``untold``: the same classes, pairs and labels, but queries are told nothing.
- ``unmatched``: no pre-matching. All queries are told one and the same word, whatever is wanted,
  and are paired with objects of any class.

Beside them, RegionCLIP's way on the same scenes: a proposal network, trained as long as a
localiser, and transfer learning on it, as long as the region prompt. Measured in other scenes are
AP50 of naming given boxes and of the detectors, for base, novel and all classes, and how many
objects have an anchor on them that was told their class. A run that was interrupted goes on where
it stopped. Writes tables in Markdown.
"""

import argparse
import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import torch
from examples.forgetting_on_icons import draw_data
from examples.measured_once import Figures, claim, known, publish, study_parser, table_of
from torchvision.ops import box_convert, box_iou

import regionclip
from regionclip.cli import main as command
from regionclip.data.datasets import Dataset
from regionclip.data.readers import open_dataset
from regionclip.detect import Detector
from regionclip.evaluation.processes import Processes
from regionclip.evaluation.watching import Watch, watched
from regionclip.flows.cora import PROMPT
from regionclip.loading import cora_detector_of
from regionclip.methods.cora.detecting import base_classes
from regionclip.methods.cora.model import Cora
from regionclip.methods.cora.pre_matching import match_anchors, novel_factors
from regionclip.methods.cora.reading import read_model
from regionclip.proposals.proposer import Localizer, NovelClasses
from regionclip.recipes import read_recipe, recipe_file
from regionclip.regions.embedder import BatchView
from regionclip.structures import PreparedImage, Proposals
from regionclip.train import MODEL, train
from regionclip.vocabulary import Vocabulary

COLUMNS = {"base AP50": "ap50_base", "novel AP50": "ap50_novel", "all AP50": "ap50_all"}
LONGEST_SIDE = 512
WORD = "object"
"""What every query is told where none is told what lies under its anchor."""
NAMING = {"clip": "CLIP", "prompt": "CLIP with the region prompt"}
DETECTION = {
    "told": "localiser, queries told what lies under their anchors (pre-matching)",
    "untold": "the same, queries told nothing",
    "unmatched": "localiser without pre-matching, any query for any object",
    "rpn": "RegionCLIP's proposal network, boxes named by CLIP",
    "rpn-prompt": "the same network, boxes named by CLIP with the region prompt",
    "transfer": "RegionCLIP's transfer learning on that network",
}
REACH = {"reach": "an anchor that was told their class lies on them"}
REACH_COLUMNS = {"base": "base", "novel": "novel", "all": "all"}


@dataclass(frozen=True, kw_only=True)
class Study:
    """Where everything is, and how long each run takes."""

    folder: Path
    start: str
    prompt_steps: int
    steps: int
    shortest_side: int
    queries: int

    @property
    def data(self) -> Path:
        """Scenes, drawn before."""
        return self.folder / "data"

    @property
    def base_boxes(self) -> Path:
        """Annotations to train on."""
        return self.data / "train" / "instances_train.json"

    def test_scenes(self) -> Dataset:
        """What is measured on."""
        content = json.loads(self.base_boxes.read_text())
        names = [each["name"] for each in content["categories"]]
        val = self.data / "val"
        found = open_dataset(str(val / "instances_val.json"), image_root=val / "images")
        return watched(found, names)

    def known(self, row: str, seed: int) -> Figures:
        """Figures of a row; measured once."""
        return known(self.folder, f"{row}-{seed}", lambda: self.measured(row, seed))

    def measured(self, row: str, seed: int) -> Figures:
        """Train what a row is about, and measure it."""
        if row in NAMING:
            return self.prompted(seed)[list(NAMING).index(row)]
        if row == "reach":
            return self.reached(read_model(self.with_prematching(seed, "told")).model)
        if row in ("told", "untold"):
            return self.found_by(regionclip.load(self.with_prematching(seed, row)))
        if row == "unmatched":
            detector = regionclip.load(self.localizer(seed, self.with_one_class(), row))
            parts = replace(detector.parts, localizer=OneWord(detector))
            return self.found_by(Detector(parts, detector.defaults))
        if row == "transfer":
            network = self.network(seed)
            return self.found_by(regionclip.load(self.transferred(seed), proposals=network))
        naming = self.start if row == "rpn" else self.prompt(seed) / MODEL
        detector = regionclip.load(naming, proposals=self.network(seed))
        sides = {"shortest_side": self.shortest_side, "longest_side": LONGEST_SIDE}
        return self.found_by(Detector(replace(detector.parts, **sides), detector.defaults))

    def found_by(self, detector: Detector) -> Figures:
        """Figures of a detector in the test scenes."""
        return Watch(self.test_scenes(), Processes(0, 1)).detection_figures(detector)

    def reached(self, model: Cora) -> Figures:
        """Shares of the test scenes' objects on which lies an anchor that was told their class."""
        scenes = self.test_scenes()
        detector = cora_detector_of(model)
        words = detector.vocabulary(scenes.class_names)
        factors = novel_factors(
            words.names, factor=model.config.novel_factor, base=base_classes(model.config)
        )
        anchors = box_convert(model.anchors.detach().sigmoid(), "cxcywh", "xyxy")
        reached: dict[str, list[bool]] = {"base": [], "novel": [], "all": []}
        for scene in scenes:
            image = detector.prepare(scene.image)
            features = model.anchor_features(model.maps([image.pixels]))
            (classes,) = match_anchors(features, words.embeddings, class_factors=factors)
            height, width = image.original_size_hw
            shares = scene.objects.boxes / torch.tensor([width, height, width, height])
            is_on = (box_iou(shares, anchors) > 0) & (scene.objects.labels[:, None] == classes)
            for label, own in zip(scene.objects.labels.tolist(), is_on, strict=True):
                for split in (scenes.categories[label].split, "all"):
                    reached[split].append(bool(own.any()))
        return {split: fmean(own) for split, own in reached.items()}

    def with_prematching(self, seed: int, row: str) -> Path:
        """A localiser whose queries have classes that CLIP sees, and are told them or not."""
        content = "class" if row == "told" else "none"
        return self.localizer(seed, self.relabelled(seed), row, f"model.query_content={content}")

    def prompt(self, seed: int) -> Path:
        """Folder of a region prompt's run, and of a CLIP with it."""
        folder = self.folder / f"prompt-{seed}"
        settings = [
            *self.settings(seed, self.base_boxes, self.prompt_steps),
            f"data.val={self.data}/val/instances_val.json",
            f"data.val_image_root={self.data}/val/images",
            f"start={self.start}",
            f"shortest_side={self.shortest_side}",
            f"longest_side={LONGEST_SIDE}",
            "templates=photo",
            "augmentation.crop_share=0.0",
            "optimization.learning_rate=3e-3",
            f"measuring.every={self.prompt_steps}",
        ]
        self.trained("cora-region-prompt-coco-rn50", settings, folder.name)
        return folder

    def prompted(self, seed: int) -> tuple[Figures, Figures]:
        """Figures of naming given boxes, before the prompt's first step and after its last."""
        lines = (self.prompt(seed) / "metrics.jsonl").read_text().splitlines()
        entries = [json.loads(line) for line in lines]
        measured = [each["evaluation"] for each in entries if "evaluation" in each]
        return measured[0], measured[-1]

    def localizer(self, seed: int, boxes: Path, name: str, *changes: str) -> Path:
        """A localiser on the CLIP with the region prompt."""
        settings = [
            *self.settings(seed, boxes, self.steps),
            f"start={self.start}",
            f"region_prompt={self.prompt(seed) / PROMPT}",
            f"model.num_queries={self.queries}",
            "model.width=128",
            "model.feedforward=256",
            "model.encoder_layers=1",
            "model.decoder_layers=3",
            "model.dropout=0.0",
            "model.text_length=25",
            f"model.shortest_side={self.shortest_side}",
            f"model.longest_side={LONGEST_SIDE}",
            "model.templates=photo",
            "augmentation.crop_share=0.0",
            "learner.split_period=none",
            "optimization.learning_rate=1e-3",
            *changes,
        ]
        return self.trained("cora-ov-coco-rn50", settings, f"{name}-{seed}")

    def trained(self, recipe: str, settings: Sequence[str], name: str) -> Path:
        """The weights of a run; trained once."""
        weights = self.folder / name / MODEL
        return weights if weights.exists() else train(read_recipe(recipe, settings), weights.parent)

    def settings(self, seed: int, boxes: Path, steps: int) -> list[str]:
        """What CORA's two runs share."""
        side = self.shortest_side
        return [
            f"data.train={boxes}",
            f"data.image_root={self.data}/train/images",
            "data.val=",
            "data.keep_empty=true",
            f"augmentation.shortest_sides=[{side * 7 // 8}, {side}, {side * 9 // 8}]",
            f"augmentation.longest_side={LONGEST_SIDE}",
            # a mirrored icon may be none that has a name
            "augmentation.flip_share=0.0",
            f"optimization.steps={steps}",
            "optimization.batch_size=8",
            f"optimization.warmup_steps={steps // 10}",
            "optimization.schedule=cosine",
            "optimization.milestones=[]",
            "optimization.ema_decay=none",
            "run.checkpoint_every=100",
            "run.num_workers=0",
            f"run.seed={seed}",
        ]

    def relabelled(self, seed: int) -> Path:
        """Training boxes called what CLIP with the region prompt calls them."""
        path = self.folder / f"relabelled-{seed}.json"
        if not path.exists():
            options = ["--model", str(self.prompt(seed) / MODEL), "--output", str(path)]
            options += ["--image-root", f"{self.data}/train/images", "--device", "cpu"]
            if command(["data", "relabel", str(self.base_boxes), *options]) != 0:
                raise SystemExit(f"boxes for seed {seed} were not relabelled")
        return path

    def with_one_class(self) -> Path:
        """Training boxes that are all called the same."""
        path = self.folder / "one_class.json"
        content = json.loads(self.base_boxes.read_text())
        content["categories"] = [{"id": 1, "name": WORD}]
        content["annotations"] = [each | {"category_id": 1} for each in content["annotations"]]
        path.write_text(json.dumps(content))
        return path

    def network(self, seed: int) -> Path:
        """A proposal network of the shape that the shipped model's has, trained from nothing."""
        settings = [
            *self.settings(seed, self.base_boxes, self.steps),
            *network_shape(self.shortest_side),
            "learner.freeze_at=0",
            "learner.norms=trained",
            "optimization.optimizer=adamw",
            "optimization.learning_rate=1e-3",
            "optimization.weight_decay=0.05",
            "optimization.max_gradient_norm=1.0",
        ]
        return self.trained("proposals", settings, f"network-{seed}")

    def transferred(self, seed: int) -> Path:
        """The model that ships, fine-tuned on base classes as RegionCLIP is, on that network."""
        settings = [
            *self.settings(seed, self.base_boxes, self.prompt_steps),
            f"start={self.start}",
            f"proposals={self.network(seed)}",
            "proposal_training=none",
            "templates=photo",
            f"shortest_side={self.shortest_side}",
            f"longest_side={LONGEST_SIDE}",
            "learner.classification_loss=focal_scaled",
            "learner.focal_gamma=0.5",
            "learner.background_weight=0.2",
            "learner.freeze_at=2",
            "optimization.learning_rate=2e-4",
        ]
        return self.trained("finetune-small", settings, f"transfer-{seed}")


class OneWord(Localizer):
    """A localiser that is told one and the same word, whatever is wanted."""

    def __init__(self, detector: Detector) -> None:
        """Take the localiser of a CORA detector."""
        if detector.parts.localizer is None:
            raise ValueError("a detector without a localiser can be told nothing")
        self._localizer = detector.parts.localizer
        self._word = detector.vocabulary([WORD])

    def localize(
        self, images: Sequence[PreparedImage], vocabulary: Vocabulary, novel: NovelClasses
    ) -> tuple[list[Proposals], BatchView]:
        """Regions of each image, whatever the vocabulary."""
        return self._localizer.localize(images, self._word, novel)


def network_shape(shortest_side: int) -> list[str]:
    """Settings of the shipped model's proposal network, for scenes of another size."""
    model = tomllib.loads(recipe_file("icons").read_text(encoding="utf-8"))["model"]
    scale = shortest_side / model["shortest_side"]
    shape = model["rpn"]
    shape["anchor_sizes"] = [[size * scale for size in row] for row in shape["anchor_sizes"]]
    selection = shape.pop("selection")
    return [f"rpn.{name}={json.dumps(each)}" for name, each in shape.items()] + [
        f"rpn.selection.{name}={json.dumps(each)}" for name, each in selection.items()
    ]


def main() -> None:
    """Train, measure, tabulate."""
    options = parser().parse_args()
    study = Study(
        folder=options.output,
        start=options.start,
        prompt_steps=options.prompt_steps,
        steps=options.steps,
        shortest_side=options.shortest_side,
        queries=options.queries,
    )
    claim(options, free=("rows",))
    draw_data(study.data, options.scenes)
    titles = NAMING | DETECTION | REACH
    rows = {name: title for name, title in titles.items() if name in options.rows}
    for seed in range(options.seeds):
        for row in rows:
            study.known(row, seed)
    found = {row: [study.known(row, seed) for seed in range(options.seeds)] for row in rows}
    naming, detection, reach = (
        {title: found.get(row, []) for row, title in titles.items()}
        for titles in (NAMING, DETECTION, REACH)
    )
    lines = [
        *table_of("naming of given boxes", naming, COLUMNS),
        "",
        *table_of("detection", detection, COLUMNS),
        "",
        *table_of("objects", reach, REACH_COLUMNS),
    ]
    publish(study.folder, lines)


def parser() -> argparse.ArgumentParser:
    """What may be told on the command line."""
    about = "Measure what CORA's parts are worth, on icons."
    parser = study_parser(about, output="runs/cora")
    parser.add_argument("--rows", nargs="+", default=[*NAMING, *DETECTION, *REACH])
    parser.add_argument("--start", default="icons", help="name or file of a CLIP")
    parser.add_argument("--prompt-steps", type=int, default=200)
    parser.add_argument("--steps", type=int, default=400, help="of each localiser and network")
    parser.add_argument("--scenes", type=int, default=400, help="to train on; a quarter to test on")
    parser.add_argument("--shortest-side", type=int, default=160, help="pixels of a scene")
    parser.add_argument("--queries", type=int, default=100, help="anchors of a localiser")
    return parser


if __name__ == "__main__":
    main()
