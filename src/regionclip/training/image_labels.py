"""What captioned pictures teach a detector: captions and tags of tiles and of groups of tiles.

    tiles                       -> and groups of them -> against captions -> loss
    proposals, largest per tile -> and groups of them -> against classes  -> loss

Nothing here knows how a detector makes vectors of regions.

Source: Detic (arXiv:2201.02605), sec. 3.2; CLIM (arXiv:2312.11376), sec. 3.2 and 4.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from regionclip.encoders.text import TextEncoder, without_padding
from regionclip.losses import (
    CaptionLossOptions,
    LossSum,
    TagLossOptions,
    caption_region_loss,
    tag_region_loss,
)
from regionclip.losses.over_processes import constant_rows_of_all
from regionclip.pairs import CaptionQueue, compose, draw_groups, largest_in_tiles
from regionclip.structures import Proposals, Tiles


@dataclass(frozen=True, slots=True)
class TileRegions:
    """Regions of some pictures.

    Attributes:
        boxes: Per picture, ``xyxy`` in its pixels.
        contains: Which tiles, of all pictures, each region is made of.
    """

    boxes: tuple[Float[Tensor, "_ 4"], ...]
    contains: Bool[Tensor, "R N"]


@dataclass(frozen=True, slots=True)
class EncodedCaptions:
    """Captions of the tiles of a step's pictures, of all processes that train together.

    Attributes:
        vectors: In the space of the regions; without gradients.
        image_ids: Of the images that they are of.
        tile_ids: Of the images in this process's tiles, tile after tile.
    """

    vectors: Float[Tensor, "N D"]
    image_ids: Int[Tensor, " N"]
    tile_ids: Int[Tensor, " T"]


def compose_pictures(
    tiles: Sequence[Tiles],
    boxes: Sequence[Float[Tensor, "_ 4"]],
    *,
    num_groups: int,
    chances: Sequence[Random],
) -> TileRegions:
    """Regions of pictures: one per tile, and groups.

    Args:
        tiles: Per picture.
        boxes: Per picture, what stands for each tile.
        num_groups: Of each mosaic.
        chances: Per picture, what its groups are drawn by.
    """
    made = [
        compose(own, draw_groups(each.side, count=num_groups, chance=chance), side=each.side)
        for each, own, chance in zip(tiles, boxes, chances, strict=True)
    ]
    contains = torch.block_diag(*(each.contains.float() for each in made)).bool()
    return TileRegions(tuple(each.boxes for each in made), contains)


class CaptionTeacher:
    """Regions against captions, those that other processes read included.

    Attributes:
        options: Weights and numbers.
        queue: Captions of batches before; a learner registers it, so that checkpoints have it.
    """

    def __init__(self, text: TextEncoder, options: CaptionLossOptions, *, width: int) -> None:
        """Captions are encoded by ``text``, in ``width`` numbers without gradients."""
        self._text, self.options = text, options
        self.queue = CaptionQueue(options.queue_size, width=width)

    def regions(
        self, tiles: Sequence[Tiles], chances: Sequence[Random], *, device: torch.device
    ) -> TileRegions:
        """Tiles and groups of them."""
        boxes = [each.boxes.to(device) for each in tiles]
        return compose_pictures(tiles, boxes, num_groups=self.options.num_groups, chances=chances)

    @torch.no_grad()
    def encode(self, tiles: Sequence[Tiles]) -> EncodedCaptions:
        """The captions of pictures, tile after tile; every process has to take part."""
        tokens = self._text.tokenize([caption for each in tiles for caption in each.captions])
        vectors = self._text.encode_tokens(without_padding(tokens)).float()
        ids = torch.cat([each.image_ids for each in tiles]).to(vectors.device)
        return EncodedCaptions(constant_rows_of_all(vectors), constant_rows_of_all(ids), ids)

    def loss(
        self,
        vectors: Float[Tensor, "R D"],
        regions: TileRegions,
        captions: EncodedCaptions,
        *,
        bias: Float[Tensor, ""] | float,
    ) -> LossSum:
        """Vectors of regions against captions of this step and of those before.

        A caption of an image that a region shows is true of it, whenever it was read.
        """
        others, other_ids = self.queue.before(captions.vectors, captions.image_ids)
        is_same = captions.tile_ids[:, None] == other_ids[None]
        is_own = _any_of(regions.contains, is_same)
        return caption_region_loss(
            vectors,
            others,
            is_own,
            bias=bias,
            options=self.options,
            num_pictures=len(regions.boxes),
        )

    def remember(self, captions: EncodedCaptions) -> None:
        """Let further batches be compared with these captions; after the loss."""
        self.queue.push(captions.vectors, captions.image_ids)


class TagTeacher:
    """Regions against the classes that captions name.

    Attributes:
        options: Weights and numbers.
        class_embeddings: One row per class that tags speak of.
    """

    def __init__(self, class_embeddings: Float[Tensor, "C D"], options: TagLossOptions) -> None:
        """Rows may be of any length."""
        self.class_embeddings, self.options = class_embeddings.detach(), options

    def regions(
        self,
        tiles: Sequence[Tiles],
        proposals: Sequence[Proposals],
        chances: Sequence[Random],
    ) -> TileRegions:
        """The largest proposal in each tile, and groups of them."""
        options = self.options
        boxes = [
            largest_in_tiles(
                own.boxes,
                each.boxes.to(own.boxes.device),
                min_share=options.min_share,
                candidates=options.candidates,
            )
            for own, each in zip(proposals, tiles, strict=True)
        ]
        return compose_pictures(tiles, boxes, num_groups=options.num_groups, chances=chances)

    def loss(
        self,
        vectors: Float[Tensor, "R D"],
        regions: TileRegions,
        tiles: Sequence[Tiles],
        *,
        bias: Float[Tensor, ""] | float,
    ) -> LossSum:
        """Vectors of regions against all classes; a group has the tags of all its tiles."""
        classes = self.class_embeddings.to(vectors.device)
        named = torch.zeros(regions.contains.shape[1], len(classes), dtype=torch.bool)
        for row, tags in zip(named, (own for each in tiles for own in each.tags), strict=True):
            row[list(tags)] = True
        is_named = _any_of(regions.contains, named.to(vectors.device))
        return tag_region_loss(vectors, classes, is_named, bias=bias, options=self.options)


def _any_of(contains: Bool[Tensor, "R N"], of_tile: Bool[Tensor, "N K"]) -> Bool[Tensor, "R K"]:
    """What is so of any tile of a region."""
    return contains.to(of_tile.device).float() @ of_tile.float() > 0
