"""Data sets made by hand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from regionclip.data.datasets import Category, Dataset, Objects, Sample


def made_dataset(
    labels: Sequence[Sequence[int]], *, num_classes: int = 1, folder: Path | None = None
) -> Dataset:
    """Images of 60x40 or 40x60 pixels by turns, with a box of 10 pixels a side per label.

    With a folder, the pictures are there.
    """
    samples = []
    for index, own in enumerate(labels):
        height, width = (40, 60) if index % 2 == 0 else (60, 40)
        path = Path(f"{index}.png") if folder is None else folder / f"{index}.png"
        if folder is not None:
            pixels = np.random.default_rng(index).integers(0, 255, (height, width, 3), np.uint8)
            Image.fromarray(pixels).save(path)
        corners = torch.arange(len(own))[:, None] * 5.0 + torch.tensor([[2.0, 3.0, 12.0, 13.0]])
        none = torch.zeros(len(own), dtype=torch.bool)
        objects = Objects(corners.reshape(-1, 4), torch.tensor(own, dtype=torch.int64), none, none)
        samples.append(Sample(path.name, path, index + 1, (height, width), objects))
    categories = tuple(Category(f"class {label}", label + 1) for label in range(num_classes))
    return Dataset("made", categories, tuple(samples))
