import json
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from regionclip.data import icons
from regionclip.detect import Detector, DetectorParts
from regionclip.evaluation import evaluate_icons
from regionclip.structures import PreparedImage, Proposals

SEED = 7
NUM_SCENES = 12
NUM_CLASSES = len(icons.CLASS_NAMES)


class OneHotText:
    """Encodes a text as the class that it names."""

    encoder_id = "one-hot"
    reading = ""

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([[self._label(text) + 1] for text in texts])

    def first_tokens(self, texts: Sequence[str]) -> Tensor:
        return self.tokenize(texts)

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        return torch.eye(NUM_CLASSES)[tokens[:, 0] - 1]

    def _label(self, text: str) -> int:
        named = [name for name in icons.CLASS_NAMES if name in text]
        return icons.CLASS_NAMES.index(max(named, key=len))


class Oracle:
    """Knows the boxes and labels of the test's scenes; sees novel classes as ``novel_seen_as``."""

    def __init__(self, novel_seen_as: dict[int, int] | None = None) -> None:
        self.novel_seen_as = novel_seen_as or {}
        scenes = [icons.draw_scene(SEED, index) for index in range(NUM_SCENES)]
        self.scenes = {scene.pixels.tobytes(): scene for scene in scenes}

    def propose(self, images: Sequence[PreparedImage]) -> list[Proposals]:
        found = []
        for image in images:
            boxes = torch.from_numpy(self.scene_of(image).boxes)
            found.append(Proposals(boxes, torch.full((len(boxes),), 9.0)))
        return found

    def view(self, images: Sequence[PreparedImage]) -> "OracleBatch":
        return OracleBatch(self, images)

    def scene_of(self, image: PreparedImage) -> icons.Scene:
        pixels = (image.pixels * 255).round().byte().permute(1, 2, 0).numpy()
        return self.scenes[np.ascontiguousarray(pixels).tobytes()]


class OracleBatch:
    def __init__(self, oracle: Oracle, images: Sequence[PreparedImage]) -> None:
        self.oracle, self.images = oracle, images

    def of(self, index: int) -> "OracleView":
        return OracleView(self.oracle.scene_of(self.images[index]), self.oracle.novel_seen_as)


class OracleView:
    def __init__(self, scene: icons.Scene, novel_seen_as: dict[int, int]) -> None:
        self.scene, self.novel_seen_as = scene, novel_seen_as

    def features(self, boxes: Tensor, *, masks: Tensor | None = None) -> Tensor:
        nearest = box_iou(boxes, torch.from_numpy(self.scene.boxes)).argmax(dim=1)
        labels = torch.from_numpy(self.scene.labels)[nearest].tolist()
        return torch.eye(NUM_CLASSES)[[self.novel_seen_as.get(each, each) for each in labels]]

    def last_stage_cells(self, boxes: Tensor) -> Tensor:
        raise NotImplementedError


def detector(oracle: Oracle) -> Detector:
    parts = DetectorParts(
        encoder=OneHotText(),
        regions=oracle,
        proposer=oracle,
        shortest_side=icons.SCENE_SIZE,
        longest_side=icons.SCENE_SIZE,
    )
    return Detector(parts)


def test_a_model_that_knows_everything_gets_full_marks() -> None:
    report = evaluate_icons(detector(Oracle()), num_scenes=NUM_SCENES, seed=SEED)
    assert set(report.metrics.values()) == {1.0}
    assert list(report.metrics)[:3] == ["ap50_all", "ap50_base", "ap50_novel"]
    assert report.num_images == NUM_SCENES


def test_confusing_novel_classes_lowers_the_novel_figures_only() -> None:
    novel = [icons.CLASS_NAMES.index(name) for name in icons.NOVEL_NAMES]
    turned = dict(zip(novel, [*novel[1:], novel[0]], strict=True))
    report = evaluate_icons(detector(Oracle(turned)), num_scenes=NUM_SCENES, seed=SEED)
    assert (report.metrics["ap50_base"], report.metrics["ap50_novel"]) == (1.0, 0.0)
    assert (report.metrics["named_base"], report.metrics["named_novel"]) == (1.0, 0.0)
    num_boxes = {each.name: each.num_boxes for each in report.splits}
    assert report.metrics["named_all"] == pytest.approx(num_boxes["base"] / num_boxes["all"])


def test_counts_are_those_of_the_scenes() -> None:
    oracle = Oracle()
    report = evaluate_icons(detector(oracle), num_scenes=NUM_SCENES, seed=SEED)
    labels = np.concatenate([scene.labels for scene in oracle.scenes.values()])
    counts = {each.name: (each.num_classes, each.num_boxes) for each in report.splits}
    assert counts["all"] == (NUM_CLASSES, len(labels))
    assert counts["base"][1] + counts["novel"][1] == len(labels)
    assert sum(each.num_boxes for each in report.classes) == len(labels)


def test_the_report_is_plain_data_that_says_how_it_was_measured() -> None:
    report = evaluate_icons(detector(Oracle()), num_scenes=NUM_SCENES, seed=SEED)
    content = json.loads(json.dumps(report.to_dict()))
    assert content["metrics"]["named_novel"] == 1.0
    assert content["data"] == f"day scenes of seed {SEED}"
    assert "No scene was drawn for training" in content["sentence"]
    assert content["notes"] == [f"A guess among {NUM_CLASSES} names: {1 / NUM_CLASSES:.1%}."]
    assert report.tables[0].columns[3:] == ("AP50", "true boxes named right")
    assert report.tables[0].rows[0][3:] == ("100.0", "100.0")


def test_progress_is_told_of_each_scene() -> None:
    steps: list[int] = []
    evaluate_icons(detector(Oracle()), num_scenes=3, seed=SEED, progress=steps.append)
    assert steps == [1, 1, 1]


def test_no_scenes_are_refused() -> None:
    with pytest.raises(ValueError, match="num_scenes must be at least 1, got 0"):
        evaluate_icons(detector(Oracle()), num_scenes=0)
