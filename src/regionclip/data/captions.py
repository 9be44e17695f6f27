"""Captioned images, wherever they lie: the one interface that a training stream reads from."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from PIL import Image

from regionclip.structures import LeftOut

from .datasets import Dataset, Sample
from .images import ImageReadError, read_image

SMALLEST_SIDE = 16
"""Pixels; a smaller image is less than one cell of a map of stride 16, and most likely a
placeholder."""
NO_CAPTION = "no caption"
UNREADABLE_CAPTION = "unreadable caption"
UNREADABLE_IMAGE = "unreadable image"
TINY_IMAGE = "tiny image"
DAMAGED_SHARD = "damaged shard"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """One image with what is said about it.

    Attributes:
        name: Unique among the samples; stored boxes are looked up by it.
        picture: RGB, upright, in its original size.
        captions: At least one, none of them blank.
    """

    name: str
    picture: Image.Image
    captions: tuple[str, ...]


@runtime_checkable
class CaptionedImages(Protocol):
    """Images in groups, which are shards or a whole data set; each can be read at any time.

    Everything here is a function of the files alone, so that all processes see the same; what is
    out of reach for now is an error (:class:`~regionclip.data.shard_cache.FetchError`).
    """

    source: str
    """What errors call it."""
    shard_names: tuple[str, ...]
    """File names of shards, by which stored boxes are found; none if it has no shards."""

    def __len__(self) -> int:
        """Groups."""
        ...

    def count(self, group: int) -> int:
        """Images in a group, usable or not; 0 if it cannot be read."""
        ...

    def expect(self, groups: Sequence[int]) -> None:
        """Get groups ready that will be counted and read soon; returns at once."""
        ...

    def damage(self, group: int) -> LeftOut | None:
        """What is wrong with a group as a whole."""
        ...

    def num_readable(self, group: int) -> int:
        """Images that :meth:`read` finds; fewer than counted, if the group was damaged since."""
        ...

    def read(self, group: int, row: int) -> CaptionedImage | LeftOut:
        """One image, or why it cannot be used; ``row`` is below :meth:`num_readable`."""
        ...


class CaptionedDataset:
    """A data set whose images are listed in memory, as one group."""

    shard_names: tuple[str, ...] = ()

    def __init__(self, dataset: Dataset) -> None:
        """Take the images that have a caption.

        Raises:
            ValueError: None has.
        """
        self.source = dataset.source
        self.samples: tuple[Sample, ...] = tuple(
            each for each in dataset if any(text.strip() for text in each.captions)
        )
        if not self.samples:
            raise ValueError(
                f"{dataset.source} has no captions ({len(dataset)} images); name a captions json, "
                "a table with a column of captions, or webdataset shards"
            )
        num_mute = len(dataset) - len(self.samples)
        if num_mute:
            _log.warning(
                "%s: %d of %d images have no caption and are left out",
                dataset.source,
                num_mute,
                len(dataset),
            )

    def __len__(self) -> int:
        return 1

    def count(self, group: int) -> int:
        """See :class:`CaptionedImages`."""
        return len(self.samples)

    def expect(self, groups: Sequence[int]) -> None:
        """Nothing is to be got ready."""

    def damage(self, group: int) -> LeftOut | None:
        """A data set was read as a whole."""
        return None

    def num_readable(self, group: int) -> int:
        """See :class:`CaptionedImages`."""
        return len(self.samples)

    def read(self, group: int, row: int) -> CaptionedImage | LeftOut:
        """See :class:`CaptionedImages`."""
        sample = self.samples[row]
        return read_captioned(sample, sample.captions)


def read_captioned(sample: Sample, captions: Sequence[str]) -> CaptionedImage | LeftOut:
    """Read the image, unless nothing is said about it.

    Args:
        sample: Names it and says where it is.
        captions: Blank ones do not count.
    """
    said = tuple(text for each in captions if (text := each.strip()))
    if not said:
        return LeftOut(NO_CAPTION, f"{sample.name} has no caption")
    try:
        picture = read_image(sample.image, name=sample.name)
    except ImageReadError as error:
        return LeftOut(UNREADABLE_IMAGE, str(error))
    if min(picture.size) < SMALLEST_SIDE:
        return LeftOut(
            TINY_IMAGE,
            f"{sample.name} has {picture.width}x{picture.height} pixels, too few to learn from",
        )
    return CaptionedImage(sample.name, picture, said)
