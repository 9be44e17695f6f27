"""Regions of pictures whose images are known: each image's tile, and groups of neighbouring tiles.

A group has no caption of its own: what is said of any of its images is true of it.

Source: CLIM (arXiv:2312.11376), sec. 3.2, "composition of mosaics".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from regionclip.detections.box_coder import nonempty

TileGroup = tuple[int, int, int, int]
"""``x0, y0, x1, y1`` in tiles: columns from ``x0`` on and before ``x1``, rows likewise."""


@dataclass(frozen=True, slots=True)
class Composition:
    """Regions of one picture.

    Attributes:
        boxes: ``xyxy``, pixels of the picture: tiles, row by row, then groups.
        contains: Which tiles each region is made of.
    """

    boxes: Float[Tensor, "R 4"]
    contains: Bool[Tensor, "R N"]


def num_groups(side: int) -> int:
    """How many rectangles of more than one tile a grid of that many tiles a side has."""
    return (side * (side + 1) // 2) ** 2 - side * side


def draw_groups(side: int, *, count: int, chance: Random) -> tuple[TileGroup, ...]:
    """Distinct rectangles of several tiles, in the order drawn.

    Args:
        side: Tiles a side.
        count: Groups to draw; all of them if there are no more, and none of a single tile.
        chance: Asked for the edges of a rectangle: two of its columns, then two of its rows, from 0
            to ``side``. Rectangles of no tile or one, and those that were drawn before, are drawn
            anew.

    Source:
        wusize/CLIM@7baade3 (``DeticCaptionWithComposition``, ``num_groups``).
    """
    groups: list[TileGroup] = []
    while len(groups) < min(count, num_groups(side)):
        x0, x1 = sorted((chance.randint(0, side), chance.randint(0, side)))
        y0, y1 = sorted((chance.randint(0, side), chance.randint(0, side)))
        group = (x0, y0, x1, y1)
        if (x1 - x0) * (y1 - y0) > 1 and group not in groups:
            groups.append(group)
    return tuple(groups)


def compose(boxes: Float[Tensor, "N 4"], groups: Sequence[TileGroup], *, side: int) -> Composition:
    """Tiles and groups of them as regions; a group's box encloses those of its tiles.

    Args:
        boxes: ``xyxy``, one per tile of a grid, row by row: the tile, or what stands for it.
        groups: From :func:`draw_groups`.
        side: Tiles a side.
    """
    grid = torch.arange(side * side).reshape(side, side)
    rows = [grid[y0:y1, x0:x1].flatten() for x0, y0, x1, y1 in groups]
    enclosing = [
        torch.cat([boxes[own, :2].amin(dim=0), boxes[own, 2:].amax(dim=0)]) for own in rows
    ]
    contains = torch.eye(side * side, dtype=torch.bool)
    of_groups = torch.zeros(len(rows), side * side, dtype=torch.bool)
    for group, own in zip(of_groups, rows, strict=True):
        group[own] = True
    return Composition(
        torch.cat([boxes, *(each[None] for each in enclosing)]),
        torch.cat([contains, of_groups]).to(boxes.device),
    )


def largest_in_tiles(
    proposals: Float[Tensor, "P 4"],
    tiles: Float[Tensor, "N 4"],
    *,
    min_share: float = 0.3,
    candidates: int = 128,
) -> Float[Tensor, "N 4"]:
    """What stands for each tile: the largest of the best proposals that lie in it.

    A proposal belongs to the tile that most of it lies in, and is cut off at its edges.

    Args:
        proposals: ``xyxy``, the best first.
        tiles: ``xyxy``, in the same pixels.
        min_share: A proposal of which no tile holds more belongs to none.
        candidates: Proposals of each tile that are looked at.

    Returns:
        One box per tile: the tile itself, if no proposal belongs to it.

    Source:
        Detic (arXiv:2201.02605), sec. 3.2, "max-size"; within tiles: wusize/CLIM@7baade3
        (``DeticTagsWithComposition``).
    """
    boxes = tiles.clone()
    proposals = proposals[nonempty(proposals)]
    if len(proposals) == 0 or len(tiles) == 0:
        return boxes
    corner = torch.maximum(proposals[:, None, :2], tiles[None, :, :2])
    far = torch.minimum(proposals[:, None, 2:], tiles[None, :, 2:])
    inside = (far - corner).clamp(min=0).prod(dim=2)
    share, tile = (inside / (proposals[:, 2:] - proposals[:, :2]).prod(dim=1)[:, None]).max(dim=1)
    for number in range(len(tiles)):
        rows = ((tile == number) & (share > min_share)).nonzero()[:candidates, 0]
        if len(rows):
            best = rows[inside[rows, number].argmax()]
            boxes[number] = torch.cat([corner[best, number], far[best, number]])
    return boxes
