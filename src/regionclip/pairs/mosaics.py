"""Mosaics: several captioned images in one picture, whose tiles are regions with known captions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Mosaics:
    """Images of a batch, most of them as tiles.

    Tiles and then singles are the images in their order: row ``i`` of the vectors of all tiles,
    mosaic after mosaic, followed by those of the singles, is of image ``i``.

    Attributes:
        pixels: Mosaics.
        boxes: Per mosaic, its tiles row by row: ``xyxy``, pixels of the mosaic.
        singles: Images that are in no mosaic.
    """

    pixels: Float[Tensor, "M 3 S S"]
    boxes: tuple[Float[Tensor, "_ 4"], ...]
    singles: Float[Tensor, "N 3 H W"]


def mosaic_sides(num_images: int, sides: Sequence[int]) -> tuple[int, ...]:
    """Tiles per side of each mosaic that a number of images makes.

    As many mosaics of each size as all sizes together allow; what is left stays single.

    Raises:
        ValueError: The images do not suffice for one mosaic of each size, or a size is not
            positive.

    Source:
        CLIM (arXiv:2312.11376), sec. 3.2; wusize/CLIM@7baade3: with sides 2, 3, 4 and 32 images one
        mosaic of each and 3 singles.
    """
    if not sides or min(sides) < 1:
        raise ValueError(f"mosaics need at least one tile per side, got {tuple(sides)}")
    needed = sum(side * side for side in sides)
    if num_images < needed:
        raise ValueError(
            f"mosaics of {tuple(sides)} tiles per side take {needed} images together, and a batch "
            f"has {num_images}; make it larger, or leave out a size"
        )
    return tuple(side for side in sides for _ in range(num_images // needed))


def compose_mosaics(
    images: Float[Tensor, "B 3 h h"], *, sides: Sequence[int], pixels_per_side: int
) -> Mosaics:
    """Lay images side by side, in their order, and resize each mosaic.

    Args:
        images: Squares, normalised or not.
        sides: Tiles per side of the mosaics to make; see :func:`mosaic_sides`.
        pixels_per_side: Of each mosaic in the end.

    Raises:
        ValueError: The images do not suffice for one mosaic of each size.

    Source:
        CLIM (arXiv:2312.11376), sec. 3.2; wusize/CLIM@7baade3: bicubic without antialiasing,
        ``align_corners=False``.
    """
    made, boxes, start = [], [], 0
    for side in mosaic_sides(len(images), sides):
        tiles = images[start : start + side * side]
        start += len(tiles)
        whole = _laid_out(tiles, side)
        size = (pixels_per_side, pixels_per_side)
        made.append(F.interpolate(whole[None], size, mode="bicubic", align_corners=False))
        boxes.append((tile_boxes(side) * pixels_per_side).to(images.device))
    return Mosaics(torch.cat(made), tuple(boxes), images[start:])


def tile_boxes(side: int) -> Float[Tensor, "R 4"]:
    """``xyxy`` of the tiles of a mosaic, row by row, in [0, 1]."""
    edges = torch.linspace(0, 1, side + 1)
    top, left = torch.meshgrid(edges[:-1], edges[:-1], indexing="ij")
    bottom, right = torch.meshgrid(edges[1:], edges[1:], indexing="ij")
    return torch.stack([left, top, right, bottom], dim=2).reshape(-1, 4)


def _laid_out(tiles: Float[Tensor, "R 3 h h"], side: int) -> Float[Tensor, "3 H W"]:
    channels, height, width = tiles.shape[1:]
    grid = tiles.reshape(side, side, channels, height, width).permute(2, 0, 3, 1, 4)
    return grid.reshape(channels, side * height, side * width)
