"""Images with captions from disk or object storage to batches, ahead of time and in any process.

The order of a run is one sequence of (group, row, seed), a function of the seed and of how many
images each group has: groups (shards) come in a new order each epoch, and the images of one in a
new order within it. Every process works this sequence out for itself from the counts alone and
takes its parts of it by position; workers are handed rows and read them by random access. So the
number of processes and of workers changes nothing, and a resumed run goes on at the very sample,
for the price that every machine reads (a share of) every shard. Dealing whole shards out to
processes or workers, as webdataset does, saves that, but ties the order to their number.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import TypeVar

import torch
from torch.utils.data import Dataset as TorchDataset

from regionclip.proposals.proposer import Proposer
from regionclip.structures import CaptionedBatch, LeftOut, PreparedImage, Proposals

from .augmentation import WholeImageVariation, mirrored
from .captions import SMALLEST_SIDE, TINY_IMAGE, CaptionedImage, CaptionedImages
from .left_out import LeftOutCounts
from .sampling import Loading, mixed_seed, read_ahead
from .shard_cache import FetchError

MOST_IN_A_ROW = 1000
"""Unusable samples one after another, at which a run stops: the whole source must be wrong."""
GROUPS_AHEAD = 2
"""Shards that are fetched while others are read."""
Taken = TypeVar("Taken")


@dataclass(frozen=True, slots=True)
class GroupDraw:
    """One image of one step.

    Attributes:
        group: Of the source.
        row: In the group.
        seed: Of all chance that concerns it: augmentation, caption, regions.
    """

    group: int
    row: int
    seed: int


def caption_batches(
    source: CaptionedImages,
    loading: Loading[WholeImageVariation],
    *,
    proposer: Proposer | None = None,
    left_out: LeftOutCounts | None = None,
    num_cut: Callable[[Sequence[str]], int] | None = None,
) -> Callable[[int], Iterable[CaptionedBatch]]:
    """This process's batches of a run, from any part of it on.

    Args:
        source: What to train on.
        loading: How.
        proposer: Boxes that were stored, or others that take no network; it is called where
            images are read.
        left_out: Counts what cannot be used, as batches are taken.
        num_cut: How many of some captions are longer than what the text tower reads; ``left_out``
            counts them.

    Returns:
        From the number of parts that are done, an iterable of the
        :class:`~regionclip.structures.CaptionedBatch` that are left. It raises ``ValueError`` if
        nothing that can be read has a caption, a shard cannot be fetched, or stored boxes are
        damaged.
    """
    images = CaptionedTrainingImages(source, loading.augmentation, proposer)
    counts = LeftOutCounts() if left_out is None else left_out

    def from_part(first: int) -> Iterable[CaptionedBatch]:
        parts = CaptionParts(source, loading, first, counts)
        for batch in read_ahead(images, parts, loading, collate):
            if isinstance(batch, ValueError):
                raise batch
            for each in batch.left_out:
                counts.add(each)
            if num_cut is not None:
                counts.num_cut += num_cut(batch.captions)
            yield batch

    return from_part


class CaptionParts:
    """A process's parts of a run, worked out as they are asked for."""

    def __init__(
        self, source: CaptionedImages, loading: Loading[object], first: int, counts: LeftOutCounts
    ) -> None:
        self._source, self._loading, self._counts = source, loading, counts
        self._first = first

    def __iter__(self) -> Iterator[list[GroupDraw]]:
        loading = self._loading
        if self._first >= loading.num_parts:
            return
        begin = position = loading.position(self._first)
        drawn = draws(self._source, seed=loading.seed, start=begin, counts=self._counts)
        for part in range(self._first, loading.num_parts):
            begin = loading.position(part)
            yield list(islice(drawn, begin - position, begin - position + loading.part_size))
            position = begin + loading.part_size


def draws(
    source: CaptionedImages, *, seed: int, start: int = 0, counts: LeftOutCounts | None = None
) -> Iterator[GroupDraw]:
    """The sequence of a run, without end; groups that end before ``start`` are only counted.

    Args:
        source: Groups and their counts.
        seed: Of the order.
        start: Images to leave out at the beginning.
        counts: Takes damages of groups.

    Raises:
        ValueError: No group has an image, or one is out of reach.
    """
    # another stream than the orders', whose numbers are those of epochs
    own = mixed_seed(seed, -1)
    position = 0
    visits = _visits(len(source), seed)
    coming: deque[tuple[int, int]] = deque(islice(visits, GROUPS_AHEAD + 1))
    num_empty = 0
    while True:
        group, order_seed = coming.popleft()
        coming.append(next(visits))
        num_images = source.count(group)
        damage = source.damage(group)
        if damage is not None and counts is not None:
            counts.add(damage)
        num_empty = 0 if num_images else num_empty + 1
        if num_empty == 2 * len(source):  # at least one whole epoch
            raise ValueError(_nothing_in(source, damage))
        if position + num_images <= start:
            position += num_images
            continue
        source.expect([each for each, _ in coming if each != group])
        generator = torch.Generator().manual_seed(order_seed)
        order = torch.randperm(num_images, generator=generator).tolist()
        for number in range(max(start - position, 0), num_images):
            yield GroupDraw(group, order[number], mixed_seed(own, position + number))
        position += num_images


def _visits(num_groups: int, seed: int) -> Iterator[tuple[int, int]]:
    """Groups without end, a new order in each epoch, with the seed of the order within each."""
    for epoch in count():
        epoch_seed = mixed_seed(seed, epoch)
        generator = torch.Generator().manual_seed(epoch_seed)
        for group in torch.randperm(num_groups, generator=generator).tolist():
            yield group, mixed_seed(epoch_seed, group + 1)


def _nothing_in(source: CaptionedImages, damage: LeftOut | None) -> str:
    reason = "" if damage is None else f" (such as: {damage.message})"
    return f"{source.source} has no image that can be read{reason}"


def first_usable(
    source: CaptionedImages,
    draw: GroupDraw,
    take: Callable[[CaptionedImage], Taken | LeftOut | ValueError],
    *,
    left_out: list[LeftOut],
) -> Taken | ValueError:
    """What is made of the image drawn, or of the first one after it that can be used.

    Args:
        source: Where images are.
        draw: Of them.
        take: Makes something of an image, or says why it cannot be used.
        left_out: Takes what came up before and could not be used.

    Returns:
        An error that ``take`` gives, or one of its own if nothing can be used.

    Raises:
        FetchError: A shard is out of reach.
    """
    num_before = len(left_out)
    for group, row in _candidates(source, draw, left_out):
        read = source.read(group, row)
        taken = read if isinstance(read, LeftOut) else take(read)
        if not isinstance(taken, LeftOut):
            return taken
        left_out.append(taken)
        if len(left_out) - num_before == MOST_IN_A_ROW:
            break
    own = left_out[num_before:]
    last = own[-1].message if own else "it is empty"
    return ValueError(
        f"{source.source}: {len(own)} samples one after another cannot be used, the "
        f"last of them because {last}; is it images with captions?"
    )


def drawn_caption(image: CaptionedImage, seed: int) -> str:
    """One of an image's captions, by chance."""
    # another stream than the augmentation's
    generator = torch.Generator().manual_seed(mixed_seed(seed, 1))
    return image.captions[int(torch.randint(len(image.captions), (1,), generator=generator))]


def too_narrow(image: CaptionedImage, size_hw: tuple[int, int]) -> LeftOut:
    """Why an image cannot be used of which too few pixels came out."""
    return LeftOut(
        TINY_IMAGE,
        f"{image.name} is {image.picture.width}x{image.picture.height} pixels, too narrow: "
        f"{size_hw[1]}x{size_hw[0]} to learn from",
    )


def _candidates(
    source: CaptionedImages, draw: GroupDraw, left_out: list[LeftOut]
) -> Iterator[tuple[int, int]]:
    """The image drawn, then those after it, in its group and in the next ones."""
    for shift in range(len(source)):
        group = (draw.group + shift) % len(source)
        num_images = source.num_readable(group)
        damage = source.damage(group)
        if damage is not None and draw.row >= num_images:
            left_out.append(damage)
        for other in range(num_images):
            yield group, (draw.row + other) % num_images


@dataclass(frozen=True, slots=True)
class CaptionedTrainingImage:
    """One augmented image; see :class:`~regionclip.structures.CaptionedBatch`."""

    name: str
    pixels: torch.Tensor
    caption: str
    seed: int
    proposals: Proposals | None
    left_out: tuple[LeftOut, ...]


class CaptionedTrainingImages(TorchDataset[CaptionedTrainingImage | ValueError]):
    """Reads and augments the images of :class:`GroupDraw`s."""

    def __init__(
        self,
        source: CaptionedImages,
        augmentation: WholeImageVariation,
        proposer: Proposer | None,
    ) -> None:
        """Read nothing yet; the arguments are those of :func:`caption_batches`."""
        self.source, self.augmentation, self.proposer = source, augmentation, proposer

    def __getitem__(self, draw: GroupDraw) -> CaptionedTrainingImage | ValueError:
        """One image; if it cannot be used, the next one of its group that can.

        If nothing can be used, a shard is out of reach, or the proposer finds its boxes damaged,
        the error is returned: raised here, it would come out of a worker with a page of its own
        history.
        """
        left_out: list[LeftOut] = []
        try:
            found = first_usable(
                self.source,
                draw,
                lambda image: self._augmented(image, draw.seed),
                left_out=left_out,
            )
        except FetchError as error:
            return error
        if isinstance(found, ValueError):
            return found
        return replace(found, left_out=tuple(left_out))

    def _augmented(
        self, image: CaptionedImage, seed: int
    ) -> CaptionedTrainingImage | LeftOut | ValueError:
        pixels, is_flipped = self.augmentation.vary_alone(
            image.picture, generator=torch.Generator().manual_seed(seed)
        )
        height, width = int(pixels.shape[1]), int(pixels.shape[2])
        if min(height, width) < min(SMALLEST_SIDE, self.augmentation.least_side):
            return too_narrow(image, (height, width))
        choice = drawn_caption(image, seed)
        proposals = None
        if self.proposer is not None:
            size_hw = (image.picture.height, image.picture.width)
            try:
                (proposals,) = self.proposer.propose([PreparedImage(pixels, size_hw, image.name)])
            except ValueError as error:
                return error
            if is_flipped:
                proposals = replace(proposals, boxes=mirrored(proposals.boxes, width))
        return CaptionedTrainingImage(image.name, pixels, choice, seed, proposals, ())


def collate(
    images: Sequence[CaptionedTrainingImage | ValueError],
) -> CaptionedBatch | ValueError:
    """Images of any sizes as one batch; the first error, if there is one."""
    read = [each for each in images if isinstance(each, CaptionedTrainingImage)]
    for each in images:
        if isinstance(each, ValueError):
            return each
    proposals = tuple(each.proposals for each in read if each.proposals is not None)
    return CaptionedBatch(
        images=tuple(each.pixels for each in read),
        captions=tuple(each.caption for each in read),
        seeds=tuple(each.seed for each in read),
        names=tuple(each.name for each in read),
        proposals=proposals if len(proposals) == len(read) else None,
        left_out=tuple(left_out for each in read for left_out in each.left_out),
    )
