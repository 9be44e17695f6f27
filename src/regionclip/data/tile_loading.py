"""Captioned images laid out as pictures, ahead of time and in any process.

The other images of a mosaic come from the group (the shard) of the one that was drawn, so that a
shard is read once. What lies in a mosaic depends on its seed alone, and not, as in the original, on
what a worker happened to read before: a resumed run goes on with the mosaics it would have had.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import Dataset as TorchDataset

from regionclip.concepts.mentions import ClassMentions
from regionclip.pairs.captions import image_id
from regionclip.structures import LeftOut, TiledBatch, Tiles

from .caption_loading import (
    CaptionParts,
    GroupDraw,
    drawn_caption,
    first_usable,
    too_narrow,
)
from .captions import SMALLEST_SIDE, CaptionedImage, CaptionedImages
from .collages import Layout
from .left_out import LeftOutCounts
from .sampling import Loading, mixed_seed, read_ahead
from .shard_cache import FetchError


@dataclass(frozen=True, slots=True)
class TiledImage:
    """One picture; see :class:`~regionclip.structures.TiledBatch`."""

    pixels: torch.Tensor
    tiles: Tiles
    seed: int
    left_out: tuple[LeftOut, ...]


def tiled_batches(
    source: CaptionedImages,
    loading: Loading[Layout],
    *,
    tags: ClassMentions | None = None,
    left_out: LeftOutCounts | None = None,
    num_cut: Callable[[Sequence[str]], int] | None = None,
) -> Callable[[int], Iterable[TiledBatch]]:
    """This process's batches of a run, from any part of it on.

    Args:
        source: What to train on.
        loading: How; its batch is counted in pictures.
        tags: Finds classes in captions; ``None`` finds none.
        left_out: Counts what cannot be used, as batches are taken.
        num_cut: As of :func:`~.caption_loading.caption_batches`.

    Returns:
        From the number of parts that are done, an iterable of the
        :class:`~regionclip.structures.TiledBatch` that are left. It raises ``ValueError`` as
        :func:`~.caption_loading.caption_batches` does.
    """
    images = TiledTrainingImages(source, loading.augmentation, tags)
    counts = LeftOutCounts() if left_out is None else left_out

    def from_part(first: int) -> Iterable[TiledBatch]:
        parts = CaptionParts(source, loading, first, counts)
        for batch in read_ahead(images, parts, loading, collate):
            if isinstance(batch, ValueError):
                raise batch
            for each in batch.left_out:
                counts.add(each)
            if num_cut is not None:
                counts.num_cut += num_cut([own for each in batch.tiles for own in each.captions])
            yield batch

    return from_part


class TiledTrainingImages(TorchDataset[TiledImage | ValueError]):
    """Reads the images of :class:`~.caption_loading.GroupDraw`s, and lays others beside them."""

    def __init__(self, source: CaptionedImages, layout: Layout, tags: ClassMentions | None) -> None:
        """Read nothing yet; the arguments are those of :func:`tiled_batches`."""
        self.source, self.layout, self.tags = source, layout, tags

    def __getitem__(self, draw: GroupDraw) -> TiledImage | ValueError:
        """One picture; an image that cannot be used is replaced by the next one that can.

        As of captioned images alone, an error is returned.
        """
        generator = torch.Generator().manual_seed(draw.seed)
        left_out: list[LeftOut] = []
        images: list[CaptionedImage] = []
        try:
            for each in self._drawn(draw, generator):
                found = first_usable(self.source, each, _wide_enough, left_out=left_out)
                if isinstance(found, ValueError):
                    return found
                images.append(found)
        except FetchError as error:
            return error
        return self._laid(images, draw.seed, generator, tuple(left_out))

    def _drawn(self, draw: GroupDraw, generator: torch.Generator) -> list[GroupDraw]:
        """The images of a picture: the one drawn, and others of its group, by chance.

        A group that has too few for a mosaic gives the image alone.

        Source: wusize/CLIM@7baade3 (``MultiChoicesMosaic``): others are drawn with replacement, and
        never the image itself.
        """
        side = self.layout.draw_side(generator=generator)
        num_images = self.source.num_readable(draw.group)
        if side == 1 or num_images < side * side:
            return [draw]
        others = torch.randint(num_images - 1, (side * side - 1,), generator=generator)
        rows = ((draw.row + 1 + others) % num_images).tolist()
        return [
            draw,
            *(
                GroupDraw(draw.group, row, mixed_seed(draw.seed, number))
                for number, row in enumerate(rows, start=2)
            ),
        ]

    def _laid(
        self,
        images: Sequence[CaptionedImage],
        seed: int,
        generator: torch.Generator,
        left_out: tuple[LeftOut, ...],
    ) -> TiledImage:
        # the image that was drawn has no place of its own
        order = torch.randperm(len(images), generator=generator).tolist()
        images = [images[place] for place in order]
        pixels, boxes = self.layout.lay([each.picture for each in images], generator=generator)
        tiles = Tiles(
            boxes=boxes,
            side=round(len(images) ** 0.5),
            image_ids=torch.tensor([image_id(each.name) for each in images]),
            captions=tuple(
                drawn_caption(each, mixed_seed(seed, number))
                for number, each in enumerate(images, start=2)
            ),
            tags=tuple(() if self.tags is None else self.tags.of(each.captions) for each in images),
        )
        return TiledImage(pixels, tiles, seed, left_out)


def collate(images: Sequence[TiledImage | ValueError]) -> TiledBatch | ValueError:
    """Pictures of any sizes as one batch; the first error, if there is one."""
    read = [each for each in images if isinstance(each, TiledImage)]
    for each in images:
        if isinstance(each, ValueError):
            return each
    return TiledBatch(
        images=tuple(each.pixels for each in read),
        tiles=tuple(each.tiles for each in read),
        seeds=tuple(each.seed for each in read),
        left_out=tuple(left_out for each in read for left_out in each.left_out),
    )


def _wide_enough(image: CaptionedImage) -> CaptionedImage | LeftOut:
    """The image, unless a picture of it would be a line."""
    size_hw = image.picture.height, image.picture.width
    return image if min(size_hw) >= SMALLEST_SIDE else too_narrow(image, size_hw)
