"""Painted data sets, and a detector that sees colours: its figures are known beforehand."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from regionclip.data.datasets import Category, Dataset, Sample
from regionclip.detect import DetectOptions, Detector, DetectorParts
from regionclip.detections.select import SelectionOptions
from regionclip.evaluation.finding import data_vocabulary, detect_dataset
from regionclip.structures import Detections, PreparedImage, Proposals

from .made import Box, categories, objects

NAMES = ("cat", "dog", "cow")
SIDE = 100


def paint(
    folder: Path,
    images: Sequence[Sequence[tuple[str, Box]]],
    *,
    kinds: tuple[Category, ...] | None = None,
) -> Dataset:
    """Write one PNG of 100 x 100 per entry, each object in its class's colour."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for index, rows in enumerate(images):
        picture = Image.new("RGB", (SIDE, SIDE))
        draw = ImageDraw.Draw(picture)
        for name, (x0, y0, x1, y1) in rows:
            draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=(50 * (NAMES.index(name) + 1), 0, 0))
        path = folder / f"{index}.png"
        picture.save(path)
        samples.append(
            Sample(path.name, path, index + 1, (SIDE, SIDE), objects=objects(rows, NAMES))
        )
    return Dataset(str(folder), categories(NAMES) if kinds is None else kinds, tuple(samples))


class ColourText:
    """Encodes a text as the class that it names, or as what a class is also called."""

    encoder_id = "colours"
    reading = ""

    def __init__(self, also_called: Mapping[str, str] | None = None) -> None:
        self.also_called = also_called or {}

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([[self._label(text) + 1] for text in texts])

    def first_tokens(self, texts: Sequence[str]) -> Tensor:
        return self.tokenize(texts)

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        return torch.eye(len(NAMES) + 1)[tokens[:, 0] - 1]

    def _label(self, text: str) -> int:
        for other, name in self.also_called.items():
            text = text.replace(other, name)
        named = [name for name in NAMES if name in text]
        return NAMES.index(named[0]) if named else len(NAMES)


class ColourRegions:
    """A region's vector is the class whose colour its centre has."""

    def __init__(self, confused: Mapping[int, int] | None = None) -> None:
        self.confused = confused or {}

    def view(self, images: Sequence[PreparedImage]) -> "ColourRegions":
        self.images = images
        return self

    def of(self, index: int) -> "ColourView":
        return ColourView(self.images[index], self.confused)


class ColourView:
    def __init__(self, image: PreparedImage, confused: Mapping[int, int]) -> None:
        self.image, self.confused = image, confused

    def features(self, boxes: Tensor, *, masks: Tensor | None = None) -> Tensor:
        centers = ((boxes[:, :2] + boxes[:, 2:]) / 2).long()
        red = self.image.pixels[0, centers[:, 1], centers[:, 0]] * 255
        labels = [self.confused.get(int(each), int(each)) for each in (red / 50).round() - 1]
        return torch.eye(len(NAMES) + 1)[labels]  # black, -1, is like no class

    def last_stage_cells(self, boxes: Tensor) -> Tensor:
        raise NotImplementedError


class KnownBoxes:
    """Proposes the boxes of a data set, by the name of the image."""

    def __init__(self, *datasets: Dataset) -> None:
        self.boxes = {
            str(sample.image): sample.objects.boxes for each in datasets for sample in each
        }

    def propose(self, images: Sequence[PreparedImage]) -> list[Proposals]:
        found = []
        for image in images:
            boxes = self.boxes[image.name]
            found.append(Proposals(boxes, torch.full((len(boxes),), 4.0)))
        return found


def colour_detector(
    *datasets: Dataset,
    confused: Mapping[int, int] | None = None,
    also_called: Mapping[str, str] | None = None,
) -> Detector:
    """Proposes the true boxes and sees their colours; ``confused`` classes as others."""
    parts = DetectorParts(
        encoder=ColourText(also_called),
        regions=ColourRegions(confused),
        proposer=KnownBoxes(*datasets),
        templates="none",
        shortest_side=SIDE,
        longest_side=SIDE,
    )
    return Detector(parts, DetectOptions(selection=SelectionOptions(min_score=0.05)))


def found_in(detector: Detector, dataset: Dataset, **options: Any) -> Iterator[Detections]:
    """Detections of the data set's own classes."""
    return detect_dataset(detector, dataset, data_vocabulary(detector, dataset), **options)
