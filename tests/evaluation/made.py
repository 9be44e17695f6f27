"""Data sets and detections made by hand or at random, for tests of evaluation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regionclip.data.datasets import Category, Dataset, Objects, Sample
from regionclip.structures import Detections

Box = Sequence[float]
BOX: Box = (10.0, 10.0, 30.0, 30.0)
ELSEWHERE: Box = (60.0, 60.0, 90.0, 90.0)


def objects(
    rows: Sequence[tuple[str, Box]],
    names: Sequence[str],
    *,
    crowd: Sequence[int] = (),
    difficult: Sequence[int] = (),
) -> Objects:
    """Rows of ``(name, xyxy)``; ``crowd`` and ``difficult`` are row numbers."""
    count = len(rows)
    return Objects(
        boxes=torch.tensor([list(box) for _, box in rows], dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor([list(names).index(name) for name, _ in rows], dtype=torch.int64),
        is_crowd=torch.tensor([row in crowd for row in range(count)], dtype=torch.bool),
        is_difficult=torch.tensor([row in difficult for row in range(count)], dtype=torch.bool),
    )


def categories(names: Sequence[str], **of_name: Sequence[str]) -> tuple[Category, ...]:
    """Ids 10, 20, ...; ``base=["cat"]`` or ``r=["cat"]`` say split or frequency."""
    found = []
    for index, name in enumerate(names, start=1):
        groups: dict[str, Any] = {
            "split" if group in ("base", "novel") else "frequency": group
            for group, members in of_name.items()
            if name in members
        }
        found.append(Category(name, 10 * index, **groups))
    return tuple(found)


def dataset(
    images: Sequence[Sequence[tuple[str, Box]] | Objects],
    names: Sequence[str] = ("cat", "dog", "cow"),
    *,
    source: str = "made.json",
    kinds: tuple[Category, ...] | None = None,
    ids: Sequence[int | str] | None = None,
) -> Dataset:
    """One image of 100 x 100 per entry."""
    samples = tuple(
        Sample(
            name=f"{index}.png",
            image=Path(f"{index}.png"),
            image_id=index + 100 if ids is None else ids[index],
            size_hw=(100, 100),
            objects=own if isinstance(own, Objects) else objects(own, names),
        )
        for index, own in enumerate(images)
    )
    return Dataset(source, categories(names) if kinds is None else kinds, samples)


def found(
    *rows: tuple[str, Box, float], names: Sequence[str] = ("cat", "dog", "cow")
) -> Detections:
    """Detections of one image from ``(name, xyxy, score)``."""
    return Detections(
        boxes=torch.tensor([list(box) for _, box, _ in rows], dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor([score for *_, score in rows], dtype=torch.float32),
        labels=torch.tensor([list(names).index(name) for name, *_ in rows], dtype=torch.int64),
        class_names=tuple(names),
    )


def random_world(
    seed: int,
    *,
    num_images: int = 30,
    names: Sequence[str] = ("cat", "dog", "cow", "hen", "pig"),
    tied_scores: bool = False,
) -> tuple[Dataset, list[Detections]]:
    """Objects of all sizes, some crowds, and detections near them, beside them and elsewhere.

    Coordinates are eighths of pixels and areas differ from the boxes', as those of masks do.
    """
    rng = np.random.default_rng(seed)
    samples, detections = [], []
    ids = rng.permutation(1000)[:num_images]
    for index in range(num_images):
        boxes = _boxes(rng, int(rng.integers(0, 8)))
        labels = rng.integers(0, len(names) - 1, len(boxes))  # the last class has no object
        near = np.repeat(boxes, 3, axis=0)
        near = near + np.round(rng.normal(0, 4, near.shape) * 8) / 8
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        turned = rng.random(len(near)) < 0.2
        near_labels = np.where(turned, rng.integers(0, len(names), len(near)), labels.repeat(3))
        other = _boxes(rng, int(rng.integers(0, 6)))
        all_boxes = np.concatenate([near, other])
        all_labels = np.concatenate([near_labels, rng.integers(0, len(names), len(other))])
        scores = rng.random(len(all_boxes))
        scores = np.round(scores, 1) if tied_scores else scores
        sides = boxes[:, 2:] - boxes[:, :2]
        samples.append(
            Sample(
                name=f"{index}.png",
                image=Path(f"{index}.png"),
                image_id=int(ids[index]),
                size_hw=(480, 640),
                objects=Objects(
                    boxes=torch.from_numpy(boxes).float(),
                    labels=torch.from_numpy(labels),
                    is_crowd=torch.from_numpy(rng.random(len(boxes)) < 0.1),
                    is_difficult=torch.from_numpy(rng.random(len(boxes)) < 0.2),
                    areas=torch.from_numpy(np.round(0.7 * sides.prod(axis=1))).float(),
                ),
            )
        )
        detections.append(
            Detections(
                boxes=torch.from_numpy(all_boxes).float(),
                scores=torch.from_numpy(scores).float(),
                labels=torch.from_numpy(all_labels),
                class_names=tuple(names),
            )
        )
    return Dataset(f"world {seed}", categories(names), tuple(samples)), detections


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    sizes = np.round(rng.choice([20, 60, 200], (count, 1)) * rng.uniform(0.5, 1.5, (count, 2)) * 8)
    corners = np.round(rng.uniform(0, 300, (count, 2)) * 8)
    return np.concatenate([corners, corners + sizes], axis=1) / 8
