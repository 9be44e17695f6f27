"""Mosaics of photographs that keep their aspect: each in a cell of a grid, close to its neighbours.

CLIM's own mosaics are of squares that fill their cells: see :mod:`~regionclip.pairs.mosaics`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from .augmentation import Augmentation
from .transforms import longest_size, pixels_of

FILL = (114, 114, 114)
"""Grey between images; mmdetection's ``Mosaic`` (``pad_val``)."""


@runtime_checkable
class Layout(Protocol):
    """How captioned images become a picture."""

    def draw_side(self, *, generator: torch.Generator) -> int:
        """Images a side of the next picture."""
        ...

    def lay(
        self, pictures: Sequence[Image.Image], *, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Lay RGB images, a square number of them.

        Returns:
            ``(3, H, W)`` in [0, 1], and the ``xyxy`` of each image in its pixels.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Alone:
    """Each image is a picture by itself."""

    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(shortest_sides=(400,), longest_side=667)
    )
    """How it is resized and mirrored."""

    def draw_side(self, *, generator: torch.Generator) -> int:
        """See :class:`Layout`."""
        return 1

    def lay(
        self, pictures: Sequence[Image.Image], *, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """See :class:`Layout`."""
        (picture,) = pictures
        pixels, _ = self.augmentation.vary_alone(picture, generator=generator)
        return pixels, torch.tensor([[0.0, 0.0, pixels.shape[2], pixels.shape[1]]])


@dataclass(frozen=True, kw_only=True, slots=True)
class Collage:
    """Images in a grid: each fits into its cell with its aspect kept, and touches its neighbours.

    Of two columns, the left one's images lie at the right of their cells and the right one's at the
    left, so that they meet; four columns are two such pairs. The middle one of three lies anywhere.
    Rows likewise, but for the middle one of three and all of four, which lie at the top or at the
    bottom.

    Source:
        CLIM (arXiv:2312.11376), sec. 4.2; wusize/CLIM@7baade3 (``MultiChoicesMosaic``).
    """

    sides: tuple[int, ...] = (2, 3, 4)
    """Images a side; one is drawn per mosaic."""
    cell: int = 400
    """Pixels of a cell's side; OV-LVIS: 320."""
    pixels: int = 800
    """Of the mosaic's side in the end; OV-LVIS: 640."""
    flip_share: float = 0.5
    """Fraction of the images that are mirrored, left to right."""

    def __post_init__(self) -> None:
        if not self.sides or min(self.sides) < 2 or max(self.sides) > 4:
            raise ValueError(f"sides must be from 2 to 4, got {self.sides}")
        if self.cell < 1 or self.pixels < 1:
            raise ValueError(f"cell and pixels must be positive, got {self.cell} and {self.pixels}")
        if not 0 <= self.flip_share <= 1:
            raise ValueError(f"flip_share must be in [0, 1], got {self.flip_share}")

    def draw_side(self, *, generator: torch.Generator) -> int:
        """See :class:`Layout`; all sides are as likely."""
        return self.sides[int(torch.randint(len(self.sides), (1,), generator=generator))]

    def lay(
        self, pictures: Sequence[Image.Image], *, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """See :class:`Layout`; a single picture fills the square's longer side."""
        side = round(len(pictures) ** 0.5)
        whole = Image.new("RGB", (side * self.cell, side * self.cell), FILL)
        columns, rows = _column_shares(side, generator), _row_shares(side, generator)
        boxes = []
        for number, picture in enumerate(pictures):
            row, column = divmod(number, side)
            own = picture.resize(longest_size(picture.size, self.cell), Image.Resampling.BILINEAR)
            if float(torch.rand(1, generator=generator)) < self.flip_share:
                own = own.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            left = column * self.cell + round(float(columns[column]) * (self.cell - own.width))
            top = row * self.cell + round(float(rows[row]) * (self.cell - own.height))
            whole.paste(own, (left, top))
            boxes.append((left, top, left + own.width, top + own.height))
        scale = self.pixels / (side * self.cell)
        resized = whole.resize((self.pixels, self.pixels), Image.Resampling.BILINEAR)
        return pixels_of(resized), scale * torch.tensor(boxes, dtype=torch.float32)


def _column_shares(side: int, generator: torch.Generator) -> Float[Tensor, " side"]:
    """Of the free width of each column's cells, the part that is left of its images."""
    if side == 3:
        return torch.tensor([1.0, float(torch.rand(1, generator=generator)), 0.0])
    return torch.tensor([1.0, 0.0]).repeat(2)[:side]


def _row_shares(side: int, generator: torch.Generator) -> Float[Tensor, " side"]:
    """Of the free height of each row's cells, the part that is above its images."""
    shares = torch.randint(2, (side,), generator=generator).float()
    if side < 4:
        shares[0], shares[-1] = 1.0, 0.0
    return shares
