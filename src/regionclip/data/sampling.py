"""Which image comes when: the order of a training run, fixed by its seed."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from .datasets import Dataset


@dataclass(frozen=True, slots=True)
class Draw:
    """One image of one step.

    Attributes:
        index: Of the sample in the data set.
        seed: Of all chance that concerns it: augmentation, regions.
        step: Of the run, from 0 on.
    """

    index: int
    seed: int
    step: int = 0


Variation = TypeVar("Variation", covariant=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Loading(Generic[Variation]):
    """How the images of a run are dealt out, varied and read."""

    augmentation: Variation
    """What becomes of each image."""

    batch_size: int
    """Images per step, over all processes and accumulated parts."""
    part_size: int
    """Of these, how many one process computes at a time."""
    num_parts: int
    """Parts of the whole run that this process computes."""
    process_index: int = 0
    num_processes: int = 1
    seed: int = 0
    num_workers: int = 2
    """Processes that read ahead; 0 reads in this one."""

    def __post_init__(self) -> None:
        if self.batch_size % (self.part_size * self.num_processes):
            raise ValueError(
                f"batch_size {self.batch_size} does not divide into {self.num_processes} processes "
                f"with parts of {self.part_size}"
            )

    def position(self, part: int) -> int:
        """Where in the run's sequence of images a part of this process begins."""
        parts_per_step = self.batch_size // (self.part_size * self.num_processes)
        step, own = divmod(part, parts_per_step)
        number = own * self.num_processes + self.process_index
        return step * self.batch_size + number * self.part_size


def repeat_factors(dataset: Dataset, *, threshold: float) -> list[float]:
    """How often each image is to be seen per epoch, so that rare classes are seen more.

    A class in a fraction f of the images asks for max(1, sqrt(threshold / f)); an image gets the
    most that any of its classes asks for.

    Args:
        dataset: Its classes and images.
        threshold: Classes in a smaller fraction of the images are repeated.

    Source:
        Gupta et al., LVIS (arXiv:1908.03195), sec. 5.2 "data resampling"; RegionCLIP uses 0.001.
    """
    labels = [set(sample.objects.labels.tolist()) for sample in dataset]
    counts = _counted(labels)
    asked = {
        label: max(1.0, sqrt(threshold * len(dataset) / count)) for label, count in counts.items()
    }
    return [max((asked[label] for label in each), default=1.0) for each in labels]


def images_per_class(dataset: Dataset) -> Float[Tensor, " C"]:
    """In how many images each class of a data set has an object."""
    counts = _counted(set(sample.objects.labels.tolist()) for sample in dataset)
    return torch.tensor([float(counts[label]) for label in range(len(dataset.class_names))])


def _counted(labels: Iterable[set[int]]) -> Counter[int]:
    return Counter(label for each in labels for label in each)


def epochs(num_images: int, *, seed: int, factors: Sequence[float] | None = None) -> Iterator[int]:
    """Indices of images without end, a new order in each epoch.

    Args:
        num_images: At least one.
        seed: Of the orders.
        factors: How often each image is seen per epoch; parts of one by chance.
    """
    epoch = 0
    while True:
        generator = torch.Generator().manual_seed(mixed_seed(seed, epoch))
        indices = torch.arange(num_images)
        if factors is not None:
            wanted = torch.tensor(factors, dtype=torch.float64)
            chance = torch.rand(num_images, generator=generator, dtype=torch.float64)
            times = wanted.floor() + (chance < wanted - wanted.floor())
            indices = indices.repeat_interleave(times.long())
        yield from indices[torch.randperm(len(indices), generator=generator)].tolist()
        epoch += 1


def batches(
    indices: Iterator[int], *, batch_size: int, seed: int, is_wide: Sequence[bool]
) -> Iterator[list[Draw]]:
    """Whole steps without end, each of wide or of high images only, so that little is padded.

    Args:
        indices: From :func:`epochs`.
        batch_size: Images per step, over all processes.
        seed: Of the images' seeds.
        is_wide: Per image, whether it is wider than high.

    Source:
        detectron2's ``AspectRatioGroupedDataset``
        (facebookresearch/detectron2@e3ee0ab ``detectron2/data/common.py``).
    """
    waiting: dict[bool, list[Draw]] = {True: [], False: []}
    step = 0
    for position, index in enumerate(indices):
        group = waiting[is_wide[index]]
        group.append(Draw(index, mixed_seed(seed, position)))
        if len(group) == batch_size:
            yield [replace(draw, step=step) for draw in group]
            group.clear()
            step += 1


def parts_of_steps(
    num_images: int,
    loading: Loading[object],
    *,
    factors: Sequence[float] | None = None,
    is_wide: Sequence[bool] | None = None,
) -> Iterator[list[Draw]]:
    """This process's parts of all steps, without end: consecutive parts are dealt out to processes.

    Args:
        num_images: At least one.
        loading: How they are dealt out.
        factors: How often each image is seen per epoch; ``None`` is once.
        is_wide: Which images are wider than high, if steps are to have images of one kind only.
    """
    own = epochs(num_images, seed=loading.seed, factors=factors)
    kinds = [True] * num_images if is_wide is None else is_wide
    # another stream than the order's, so that no image sees the order's chance
    seed = mixed_seed(loading.seed, 1)
    for step in batches(own, batch_size=loading.batch_size, seed=seed, is_wide=kinds):
        starts = range(0, loading.batch_size, loading.part_size)
        for number, start in enumerate(starts):
            if number % loading.num_processes == loading.process_index:
                yield step[start : start + loading.part_size]


def read_ahead(
    images: TorchDataset[Any],
    parts: Iterable[list[Any]],
    loading: Loading[object],
    collate: Callable[[list[Any]], Any],
) -> Iterable[Any]:
    """Batches in the order of their parts, read ahead in processes of their own.

    Args:
        images: What a part's draws are looked up in.
        parts: Lists of draws, one per batch.
        loading: How many processes.
        collate: Makes a batch of the images of a part.
    """
    return DataLoader(
        images,
        batch_sampler=parts,
        num_workers=loading.num_workers,
        collate_fn=collate,
        # its own: a loader that drew from the global one would shift it
        generator=torch.Generator(),
    )


def mixed_seed(seed: int, number: int) -> int:
    """A seed in [0, 2^63) that differs for every ``number`` of a run and between runs."""
    # golden ratio and multipliers of splitmix64 (Steele et al., OOPSLA 2014, fig. 17)
    mixed = (seed * 0x9E3779B97F4A7C15 + number + 0x9E3779B97F4A7C15) % 2**64
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) % 2**64
    return (mixed ^ (mixed >> 31)) >> 1
