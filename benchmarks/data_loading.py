"""How fast annotated photographs come from disk, augmented as recipes do, without any training."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import torch
from PIL import Image

from regionclip.data.augmentation import Augmentation
from regionclip.data.datasets import Category, Dataset, Objects, Sample
from regionclip.data.detection_loading import detection_batches
from regionclip.data.sampling import Loading
from regionclip.structures import DetectionBatch

from .measure import Timing
from .stand_ins import picture, random_boxes

PHOTOGRAPH_HW = (480, 640)
"""The size that most of COCO's photographs have."""
JPEG_QUALITY = 95
NUM_FILES = 16
"""Different photographs; the system keeps their files in memory, so that no disk is measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadingOptions:
    """What is loaded."""

    num_images: int
    """Photographs per pass, drawn from :data:`NUM_FILES` files."""
    num_objects: int
    """Outlined objects on each."""


def time_loading(
    folder: Path, options: LoadingOptions, *, num_workers: int, repeats: int
) -> Timing:
    """Seconds per photograph, one after another, without the time that processes take to start.

    Args:
        folder: Empty; gets the photographs.
        options: What is loaded.
        num_workers: Processes that read ahead, as a recipe's ``run.num_workers``; 0 reads in this
            one, the only case in which the processor time is known.
        repeats: Passes; the median is taken.
    """
    loading = Loading(
        augmentation=Augmentation(),
        batch_size=1,
        part_size=1,
        num_parts=options.num_images + 1,
        num_workers=num_workers,
    )
    batches = detection_batches(
        photographs(folder, options.num_objects), loading, with_polygons=True
    )
    passes = [_pass(batches(0)) for _ in range(repeats)]
    return Timing(
        median(each.seconds for each in passes), median(each.busy_cores for each in passes)
    )


def photographs(folder: Path, num_objects: int) -> Dataset:
    """JPEGs with objects of any size, each outlined by a polygon."""
    samples = []
    for index in range(NUM_FILES):
        path = folder / f"{index}.jpg"
        pixels = (picture(*PHOTOGRAPH_HW, seed=index) * 255).byte().permute(1, 2, 0)
        Image.fromarray(pixels.numpy()).save(path, quality=JPEG_QUALITY)
        boxes = random_boxes(num_objects, *PHOTOGRAPH_HW, seed=index)
        none = torch.zeros(num_objects, dtype=torch.bool)
        outlines = tuple(
            [[x0, y0, x1, y0, x1, y1, (x0 + x1) / 2, (y0 + y1) / 2, x0, y1]]
            for x0, y0, x1, y1 in boxes.tolist()
        )
        labels = torch.arange(num_objects)
        objects = Objects(boxes, labels, none, none, segmentations=outlines)
        samples.append(Sample(path.name, path, index + 1, PHOTOGRAPH_HW, objects))
    classes = tuple(Category(f"class {label}", label + 1) for label in range(num_objects))
    return Dataset("stand-ins", classes, tuple(samples))


def _pass(batches: Iterable[DetectionBatch]) -> Timing:
    """Per photograph, from the first one that has arrived on."""
    arriving = iter(batches)
    next(arriving)
    start, busy_start = perf_counter(), process_time()
    count = sum(1 for _ in arriving)
    elapsed = perf_counter() - start
    return Timing(elapsed / count, (process_time() - busy_start) / elapsed)
