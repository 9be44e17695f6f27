"""Regions of an image paired with crops of it, for an image tower that teaches itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from regionclip.data.letterbox import letterbox
from regionclip.data.transforms import pixels_of
from regionclip.detections.box_coder import clip_boxes, of_areas


@dataclass(frozen=True, kw_only=True, slots=True)
class GridCells:
    """Regions that are the cells of a grid, drawn anew for every image.

    Source:
        CLIPSelf (arXiv:2310.01403), sec. 3.2 "image patches"; wusize/CLIPSelf@1c7fe9c
        ``--max-split 6 --max-boxes 20 --crop-scale 1``.
    """

    max_split: int = 6
    """Most rows and columns. A grid has no more than twice as many of the one as of the other."""
    max_regions: int = 20
    """Cells per image; of more, some are drawn."""
    crop_scale: float = 1.0
    """What the teacher sees of a cell is this much wider and higher than it."""

    def __post_init__(self) -> None:
        _check_positive(self.max_split, self.max_regions, self.crop_scale)

    def draw(
        self, size_hw: tuple[int, int], boxes: Float[Tensor, "N 4"], chance: Random
    ) -> Float[Tensor, "R 4"]:
        """Cells of a random grid, in random order.

        Args:
            size_hw: Of the image.
            boxes: Not looked at.
            chance: Draws the grid, then the order.
        """
        height, width = size_hw
        rows, columns = chance.choice(grids(self.max_split))
        cells = [
            (
                column * width / columns,
                row * height / rows,
                (column + 1) * width / columns,
                (row + 1) * height / rows,
            )
            for row in range(rows)
            for column in range(columns)
        ]
        chance.shuffle(cells)
        return torch.tensor(cells[: self.max_regions])


@dataclass(frozen=True, kw_only=True, slots=True)
class GivenRegions:
    """Regions that are boxes of the data set: proposals, or whatever lies there.

    Source:
        CLIPSelf (arXiv:2310.01403), sec. 3.2 "region proposals"; wusize/CLIPSelf@1c7fe9c
        (``proposals_distill``).
    """

    max_regions: int = 20
    """Boxes per image that are looked at, drawn at random."""
    smallest_side: int = 8
    """Boxes of a smaller area than a square of so many pixels are passed over."""
    largest_side: int = 1024
    """Boxes of a larger area than a square of so many pixels are passed over."""
    crop_scale: float = 1.5
    """What the teacher sees of a box is this much wider and higher than it."""

    def __post_init__(self) -> None:
        _check_positive(self.max_regions, self.smallest_side, self.largest_side, self.crop_scale)

    def draw(
        self, size_hw: tuple[int, int], boxes: Float[Tensor, "N 4"], chance: Random
    ) -> Float[Tensor, "R 4"]:
        """Some of the boxes; the upper left sixteenth of the image if there is none of use.

        Args:
            size_hw: Of the image.
            boxes: ``xyxy``, its pixels.
            chance: Draws the order.
        """
        order = list(range(len(boxes)))
        chance.shuffle(order)
        looked_at = boxes[torch.tensor(order[: self.max_regions], dtype=torch.int64)]
        is_kept = of_areas(
            looked_at, smallest_side=self.smallest_side, largest_side=self.largest_side
        )
        kept = looked_at[is_kept].float()
        if len(kept):
            return kept
        height, width = size_hw
        return torch.tensor([[0.0, 0.0, width / 4, height / 4]])


RegionDraw = GridCells | GivenRegions
"""Where the regions of an image come from."""


def grids(max_split: int) -> list[tuple[int, int]]:
    """Rows and columns of all grids that may be drawn; 24 of them for 6."""
    return [
        (rows, columns)
        for rows in range(1, max_split + 1)
        for columns in range(-(-rows // 2), min(2 * rows, max_split) + 1)
    ]


def enlarged(
    boxes: Float[Tensor, "R 4"], scale: float, size_hw: tuple[int, int]
) -> Float[Tensor, "R 4"]:
    """Boxes that many times as wide and high about their centres, clipped to the image.

    Args:
        boxes: ``xyxy``, pixels of the image; at a scale of 1 they come back as they are.
        scale: Positive.
        size_hw: Of the image.
    """
    if scale == 1:
        return boxes
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    halves = (boxes[:, 2:] - boxes[:, :2]) / 2 * scale
    return clip_boxes(torch.cat([centers - halves, centers + halves], dim=1), size_hw)


def cut_crops(
    picture: Image.Image, boxes: Float[Tensor, "R 4"], *, side: int
) -> Float[Tensor, "R 3 S S"]:
    """The boxes as pictures of their own, letter-boxed with black; RGB in [0, 1].

    Edges are rounded to whole pixels; what lies beyond the picture is black.

    Args:
        picture: RGB.
        boxes: ``xyxy``, pixels of the picture, with an area.
        side: Pixels of the squares.
    """
    crops = [pixels_of(letterbox(_cut(picture, box), side)) for box in boxes.tolist()]
    return torch.stack(crops) if crops else torch.zeros(0, 3, side, side)


def _cut(picture: Image.Image, box: Sequence[float]) -> Image.Image:
    """At least one pixel: boxes narrower than half of one are rounded away otherwise."""
    left, top, right, bottom = (round(edge) for edge in box)
    return picture.crop((left, top, max(right, left + 1), max(bottom, top + 1)))


def _check_positive(*values: int | float) -> None:
    if min(values) <= 0:
        raise ValueError(f"numbers and sizes of regions must be positive, got {values}")
