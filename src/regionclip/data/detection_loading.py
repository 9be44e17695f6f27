"""Annotated images from disk to a detector's training batches, ahead of time and in any process."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from PIL import Image
from torch.utils.data import Dataset as TorchDataset

from regionclip.structures import DetectionBatch, Targets

from .augmentation import ObjectVariation
from .datasets import Dataset, Sample
from .images import ImageReadError, read_image
from .sampling import Draw, Loading, parts_of_steps, read_ahead, repeat_factors

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainingImage:
    """One augmented image; see :class:`~regionclip.structures.DetectionBatch`."""

    pixels: torch.Tensor
    targets: Targets
    seed: int
    step: int


class TrainingImages(TorchDataset[TrainingImage]):
    """Reads and augments the images of :class:`~regionclip.data.sampling.Draw`s."""

    def __init__(
        self, dataset: Dataset, augmentation: ObjectVariation, *, with_polygons: bool = False
    ) -> None:
        """Read nothing yet.

        Args:
            dataset: At least one image.
            augmentation: How images vary.
            with_polygons: Keep outlines; see :func:`~regionclip.data.augmentation.augment`.
        """
        self.dataset, self.augmentation = dataset, augmentation
        self.with_polygons = with_polygons

    def __getitem__(self, draw: Draw) -> TrainingImage:
        """One image; if it cannot be read, the next one that can, and the log names it.

        Raises:
            ImageReadError: No image of the data set can be read.
        """
        sample, picture = read_first(self.dataset, draw.index)
        pixels, targets = self.augmentation.vary(
            picture,
            sample.objects,
            generator=torch.Generator().manual_seed(draw.seed),
            with_polygons=self.with_polygons,
        )
        return TrainingImage(pixels, targets, draw.seed, draw.step)


def read_first(dataset: Dataset, index: int) -> tuple[Sample, Image.Image]:
    """The first image from a place on that can be read, RGB; the log names those that cannot.

    Raises:
        ImageReadError: No image of the data set can be read.
    """
    error: ImageReadError | None = None
    for shift in range(len(dataset)):
        sample = dataset[(index + shift) % len(dataset)]
        try:
            return sample, read_image(sample.image, name=sample.name)
        except ImageReadError as reason:
            _log.warning("%s; the next image is taken instead", reason)
            error = error or reason
    raise error or ValueError(f"{dataset.source} has no image")


def detection_batches(
    dataset: Dataset,
    loading: Loading[ObjectVariation],
    *,
    repeat_threshold: float = 0.0,
    with_polygons: bool = False,
) -> Callable[[int], Iterable[DetectionBatch]]:
    """This process's batches of a run, from any part of it on.

    Args:
        dataset: What to train on; images without objects teach the background.
        loading: How.
        repeat_threshold: Classes in a smaller fraction of the images are seen more often; 0
            repeats none.
        with_polygons: Keep outlines; see :func:`~regionclip.data.augmentation.augment`.

    Returns:
        From the number of parts that are done, an iterable of the
        :class:`~regionclip.structures.DetectionBatch` that are left.
    """
    images = TrainingImages(dataset, loading.augmentation, with_polygons=with_polygons)
    is_wide = [each.size_hw is None or each.size_hw[1] > each.size_hw[0] for each in dataset]
    factors = None
    if repeat_threshold > 0:
        factors = repeat_factors(dataset, threshold=repeat_threshold)

    def from_part(first: int) -> Iterable[DetectionBatch]:
        parts = parts_of_steps(len(dataset), loading, factors=factors, is_wide=is_wide)
        left = list(islice(parts, first, loading.num_parts))
        return read_ahead(images, left, loading, collate)

    return from_part


def collate(images: Sequence[TrainingImage]) -> DetectionBatch:
    """Images of any sizes as one batch; they are of one step."""
    return DetectionBatch(
        images=tuple(each.pixels for each in images),
        targets=tuple(each.targets for each in images),
        seeds=tuple(each.seed for each in images),
        step=images[0].step,
    )
