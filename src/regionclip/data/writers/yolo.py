"""A data set as a YOLO folder: ``data.yaml``, ``images/<split>`` and ``labels/<split>``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from regionclip.data.datasets import SMALLEST_SIDE, Dataset, Sample

from .images import ImagePlacing, image_names, place_images, size_of


@dataclass(slots=True)
class YoloLosses:
    """What a YOLO folder cannot hold."""

    num_crowds: int = 0
    num_clipped: int = 0
    num_outside: int = 0
    num_difficult: int = 0
    num_masks: int = 0

    @property
    def num_left_out(self) -> int:
        """Boxes that are not in the folder."""
        return self.num_crowds + self.num_outside

    def sentences(self) -> list[str]:
        """All that was lost."""
        texts = {
            "crowds (iscrowd) left out": self.num_crowds,
            "boxes clipped to their image": self.num_clipped,
            "boxes without area in their image left out": self.num_outside,
            "difficult objects written as any other": self.num_difficult,
            "masks left out; their boxes are written": self.num_masks,
        }
        return [f"{number} {text}" for text, number in texts.items() if number]


def write_yolo(
    folder: Path,
    datasets: Mapping[str, Dataset],
    *,
    placing: ImagePlacing = "link",
    progress: Callable[[int], None] | None = None,
) -> YoloLosses:
    """Write data sets with the same classes, one per split.

    Images without boxes get an empty label file. Class numbers are labels, from 0.

    Args:
        folder: Empty, or not there.
        datasets: By split: ``train``, ``val``, ``test``.
        placing: How images come to ``images/<split>``.
        progress: Called with 1 after each image.

    Raises:
        ValueError: The classes differ or there are none, two images would share a label file, or an
            image cannot be placed, or its size is neither annotated nor to be read.
    """
    names = _shared_names(datasets)
    losses = YoloLosses()
    for split, dataset in datasets.items():
        file_names = image_names(dataset)
        for sample, name in zip(dataset, file_names, strict=True):
            file = (folder / "labels" / split / name).with_suffix(".txt")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(_lines_of(sample, losses)), encoding="utf-8")
        place_images(
            dataset, file_names, folder / "images" / split, placing=placing, progress=progress
        )
    content = {split: f"images/{split}" for split in datasets} | {"names": dict(enumerate(names))}
    comments = "".join(f"# {each}\n" for each in losses.sentences())
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(comments + text, encoding="utf-8")
    return losses


def _shared_names(datasets: Mapping[str, Dataset]) -> tuple[str, ...]:
    first, *others = datasets.values()
    for other in others:
        if other.class_names != first.class_names:
            raise ValueError(
                f"{first.source} and {other.source} have different classes "
                f"({', '.join(first.class_names)[:200]}; {', '.join(other.class_names)[:200]}), "
                "but a YOLO folder has one list; convert them apart"
            )
    if not first.categories:
        raise ValueError(f"{first.source} has no categories: only boxes can be written as YOLO")
    return first.class_names


def _lines_of(sample: Sample, losses: YoloLosses) -> list[str]:
    objects = sample.objects
    if not len(objects):
        return []
    height, width = size_of(sample)
    limit = torch.tensor([width, height, width, height], dtype=torch.float64)
    boxes = objects.boxes.double()
    clipped = torch.minimum(boxes.clamp(min=0), limit)
    has_area = (clipped[:, 2:] - clipped[:, :2] > SMALLEST_SIDE).all(dim=1)
    is_kept = has_area & ~objects.is_crowd
    losses.num_crowds += int(objects.is_crowd.sum())
    losses.num_outside += int((~has_area & ~objects.is_crowd).sum())
    losses.num_clipped += int(((clipped != boxes).any(dim=1) & is_kept).sum())
    losses.num_difficult += int((objects.is_difficult & is_kept).sum())
    has_mask = [bool(each) for each in objects.segmentations] or [False] * len(objects)
    losses.num_masks += int((torch.tensor(has_mask) & is_kept).sum())
    shares = clipped / limit
    centres, sides = (shares[:, :2] + shares[:, 2:]) / 2, shares[:, 2:] - shares[:, :2]
    rows = torch.cat([centres, sides], dim=1)[is_kept].tolist()
    labels = objects.labels[is_kept].tolist()
    return [
        f"{label} {' '.join(f'{each:.8f}' for each in row)}\n"
        for label, row in zip(labels, rows, strict=True)
    ]
