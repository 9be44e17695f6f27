"""The shipped model's examination: new icon scenes, base and novel classes apart."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from regionclip.data import icons
from regionclip.data.datasets import Category, Dataset, Objects, Sample
from regionclip.detect import Detector
from regionclip.structures import Detections
from regionclip.vocabulary import Vocabulary

from .coco import evaluate_ov_coco
from .report import EvaluationReport, Table, percent

DEFAULT_SEED = 1_000_000
"""Of the figures that the README gives. Test scenes never share a random stream with training
scenes, whatever the seeds."""
SPLITS = ("all", "base", "novel")


def evaluate_icons(
    detector: Detector,
    *,
    num_scenes: int = 200,
    seed: int = DEFAULT_SEED,
    domain: icons.Domain = "day",
    progress: Callable[[int], None] | None = None,
) -> EvaluationReport:
    """Detect and name icons in new scenes.

    Args:
        detector: With its own proposals and text tower.
        num_scenes: How many scenes to draw, at least one.
        seed: Of the scenes.
        domain: Light and weather.
        progress: Called after each scene with 1.

    Returns:
        ``ap50_*`` of the model's own boxes and names, and ``named_*``: the share of the true boxes
        that get the right name out of all classes; each of all, base and novel classes.

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
    dataset = _dataset_of(scenes, f"{domain} scenes of seed {seed}")
    detection = evaluate_ov_coco(dataset, found)
    metrics = {f"ap50_{split}": detection.metrics[f"ap50_{split}"] for split in SPLITS}
    metrics |= _named_shares(dataset, torch.cat(named))
    return replace(
        detection,
        protocol="icons",
        sentence=(
            f"{detection.sentence} named is the share of the true boxes that get their own name as "
            "the best of all. No scene was drawn for training; no box of a novel class was ever "
            "seen."
        ),
        metrics=metrics,
        tables=(_table(detection, metrics),),
        notes=(f"A guess among {len(icons.CLASS_NAMES)} names: {1 / len(icons.CLASS_NAMES):.1%}.",),
    )


def _dataset_of(scenes: Sequence[icons.Scene], source: str) -> Dataset:
    """The scenes' boxes; their pixels are in memory, so that the paths name nothing."""
    categories = tuple(
        Category(name, number, "novel" if name in icons.NOVEL_NAMES else "base")
        for number, name in enumerate(icons.CLASS_NAMES, start=1)
    )
    samples = []
    for index, scene in enumerate(scenes):
        labels = torch.from_numpy(scene.labels).long()
        no = torch.zeros(len(labels), dtype=torch.bool)
        samples.append(
            Sample(
                name=f"scene {index}",
                image=Path(f"scene {index}"),
                image_id=index,
                size_hw=(icons.SCENE_SIZE, icons.SCENE_SIZE),
                objects=Objects(torch.from_numpy(scene.boxes).float(), labels, no, no),
            )
        )
    return Dataset(source, categories, tuple(samples))


def _is_named(detector: Detector, scene: icons.Scene, vocabulary: Vocabulary) -> Tensor:
    """Which of a scene's true boxes get their own name as the best of all classes."""
    scores = detector.classify_regions(scene.pixels, torch.from_numpy(scene.boxes), vocabulary)
    return scores.argmax(dim=1) == torch.from_numpy(scene.labels)


def _named_shares(dataset: Dataset, is_right: Tensor) -> dict[str, float]:
    """By split; NaN for a split without boxes."""
    labels = torch.cat([sample.objects.labels for sample in dataset])
    is_novel = torch.tensor([each.split == "novel" for each in dataset.categories])[labels]
    rows = {"all": torch.ones_like(is_novel), "base": ~is_novel, "novel": is_novel}
    return {
        f"named_{split}": float(is_right[rows[split]].float().mean()) for split in SPLITS
    }  # the mean of nothing is NaN


def _table(detection: EvaluationReport, metrics: dict[str, float]) -> Table:
    rows = tuple(
        (
            each.name,
            str(each.num_classes),
            str(each.num_boxes),
            percent(metrics[f"ap50_{each.name}"]),
            percent(metrics[f"named_{each.name}"]),
        )
        for each in detection.splits
    )
    columns = ("classes", "number", "boxes", "AP50", "true boxes named right")
    return Table("Icons (percent)", columns, rows)
