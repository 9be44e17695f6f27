"""The shipped model's examination: new icon scenes, base and novel classes apart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regionclip.data import icons
from regionclip.detect import Detector
from regionclip.structures import Detections
from regionclip.vocabulary import Vocabulary

from .average_precision import DetectionReport, evaluate_detections

DEFAULT_SEED = 1_000_000
"""Of the figures that the README gives. Test scenes never share a random stream with training
scenes, whatever the seeds."""


@dataclass(frozen=True, slots=True)
class IconsReport:
    """Detection on generated scenes, and naming with the boxes given.

    Attributes:
        detection: Average precision of the model's own boxes and names.
        naming: Share of the true boxes that get the right name out of all classes, by split and
            under ``all``; ``None`` for a split that has no boxes.
        num_boxes: True boxes, by split and under ``all``.
        seed: Of the scenes.
        domain: Their light and weather.
    """

    detection: DetectionReport
    naming: dict[str, float | None]
    num_boxes: dict[str, int]
    seed: int
    domain: icons.Domain

    @property
    def chance(self) -> float:
        """Share of boxes that a guess would name."""
        return 1 / len(self.detection.classes)

    @property
    def protocol(self) -> str:
        """How the figures came about, in two sentences."""
        return (
            f"{self.detection.protocol} Scenes: {self.domain}, seed {self.seed}, never drawn for "
            f"training; no box of a novel class was ever seen."
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data for JSON; all shares in [0, 1]."""
        return {
            **self.detection.to_dict(),
            "protocol": self.protocol,
            "num_boxes": self.num_boxes,
            "naming_of_true_boxes": self.naming,
            "chance": self.chance,
            "seed": self.seed,
            "domain": self.domain,
        }


def evaluate_icons(
    detector: Detector,
    *,
    num_scenes: int = 200,
    seed: int = DEFAULT_SEED,
    domain: icons.Domain = "day",
    progress: Callable[[int], None] | None = None,
) -> IconsReport:
    """Detect and name icons in new scenes.

    Args:
        detector: With its own proposals and text tower.
        num_scenes: How many scenes to draw, at least one.
        seed: Of the scenes.
        domain: Light and weather.
        progress: Called after each scene with 1.

    Raises:
        ValueError: ``num_scenes`` is not positive.
    """
    if num_scenes < 1:
        raise ValueError(f"num_scenes must be at least 1, got {num_scenes}")
    vocabulary = detector.vocabulary(icons.CLASS_NAMES)
    scenes, found, named = [], [], []
    for index in range(num_scenes):
        scene = icons.draw_scene(seed, index, domain=domain)
        detections = detector.detect(scene.pixels, vocabulary)
        if not isinstance(detections, Detections):
            raise TypeError("one image gives one Detections")
        scenes.append(scene)
        found.append(detections)
        named.append(_is_named(detector, scene, vocabulary))
        if progress is not None:
            progress(1)
    naming, num_boxes = _naming_by_split(torch.cat(named), scenes)
    return IconsReport(
        detection=evaluate_detections(found, icons.coco_annotations(scenes)),
        naming=naming,
        num_boxes=num_boxes,
        seed=seed,
        domain=domain,
    )


def _is_named(detector: Detector, scene: icons.Scene, vocabulary: Vocabulary) -> Tensor:
    """Which of a scene's true boxes get their own name as the best of all classes."""
    scores = detector.classify_regions(scene.pixels, torch.from_numpy(scene.boxes), vocabulary)
    return scores.argmax(dim=1) == torch.from_numpy(scene.labels)


def _naming_by_split(
    is_right: Tensor, scenes: Sequence[icons.Scene]
) -> tuple[dict[str, float | None], dict[str, int]]:
    novel_labels = [icons.CLASS_NAMES.index(name) for name in icons.NOVEL_NAMES]
    labels = torch.cat([torch.from_numpy(scene.labels) for scene in scenes])
    is_novel = torch.isin(labels, torch.tensor(novel_labels))
    rows = {"all": torch.ones_like(is_novel), "base": ~is_novel, "novel": is_novel}
    counts = {split: int(chosen.sum()) for split, chosen in rows.items()}
    shares = {
        split: float(is_right[chosen].float().mean()) if counts[split] else None
        for split, chosen in rows.items()
    }
    return shares, counts
