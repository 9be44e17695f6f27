"""Annotated images from disk to a detector's training batches, ahead of time and in any process."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from regionclip.structures import DetectionBatch, Targets

from .augmentation import Augmentation
from .datasets import Dataset
from .images import ImageReadError, read_image
from .sampling import Draw, Loading, batches, epochs, mixed_seed, repeat_factors

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
        self, dataset: Dataset, augmentation: Augmentation, *, with_polygons: bool = False
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
        error: ImageReadError | None = None
        for shift in range(len(self.dataset)):
            sample = self.dataset[(draw.index + shift) % len(self.dataset)]
            try:
                picture = read_image(sample.image, name=sample.name)
            except ImageReadError as reason:
                _log.warning("%s; the next image is taken instead", reason)
                error = error or reason
                continue
            pixels, targets = self.augmentation.vary(
                picture,
                sample.objects,
                generator=torch.Generator().manual_seed(draw.seed),
                with_polygons=self.with_polygons,
            )
            return TrainingImage(pixels, targets, draw.seed, draw.step)
        raise error or ValueError(f"{self.dataset.source} has no image")


def detection_batches(
    dataset: Dataset,
    loading: Loading,
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

    def parts() -> Iterator[list[Draw]]:
        """Consecutive parts of each step, dealt out to processes."""
        own = epochs(len(dataset), seed=loading.seed, factors=factors)
        # another stream than the order's, so that no image sees the order's chance
        seed = mixed_seed(loading.seed, 1)
        for step in batches(own, batch_size=loading.batch_size, seed=seed, is_wide=is_wide):
            starts = range(0, loading.batch_size, loading.part_size)
            for number, start in enumerate(starts):
                if number % loading.num_processes == loading.process_index:
                    yield step[start : start + loading.part_size]

    def from_part(first: int) -> Iterable[DetectionBatch]:
        return DataLoader(
            images,
            batch_sampler=list(islice(parts(), first, loading.num_parts)),
            num_workers=loading.num_workers,
            collate_fn=collate,
            # its own: a loader that drew from the global one would shift it
            generator=torch.Generator(),
        )

    return from_part


def collate(images: Sequence[TrainingImage]) -> DetectionBatch:
    """Images of any sizes as one batch; they are of one step."""
    return DetectionBatch(
        images=tuple(each.pixels for each in images),
        targets=tuple(each.targets for each in images),
        seeds=tuple(each.seed for each in images),
        step=images[0].step,
    )
