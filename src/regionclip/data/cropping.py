"""Photographs for training as DETR varies them: mirrored, cropped and resized by chance."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from regionclip.detections.box_coder import clip_boxes, nonempty
from regionclip.structures import Targets

from .augmentation import Augmentation, mirrored
from .datasets import Objects
from .transforms import FILTERS, detr_size, pixels_of


@dataclass(frozen=True, kw_only=True, slots=True)
class CroppingAugmentation(Augmentation):
    """How images vary: perhaps mirrored, perhaps cropped, then resized.

    Source:
        DETR (arXiv:2005.12872), sec. 4 and facebookresearch/detr@29901c5 ``datasets/coco.py``;
        tgxs002/CORA@c334a6d trains with the same numbers.
    """

    shortest_sides: tuple[int, ...] = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    """Pixels; one is drawn per image for its shorter side at the end."""
    crop_share: float = 0.5
    """Fraction of the images of which only a part is seen."""
    crop_from_sides: tuple[int, ...] = (400, 500, 600)
    """Pixels; one is drawn for the shorter side of an image that a part is cut from."""
    crop_sides: tuple[int, int] = (384, 600)
    """Fewest and most pixels of a part's width and of its height, each drawn in between; a side of
    the image that is shorter is a limit too."""

    def __post_init__(self) -> None:
        Augmentation.__post_init__(self)
        if not 0 <= self.crop_share <= 1:
            raise ValueError(f"crop_share must be in [0, 1], got {self.crop_share}")
        if not self.crop_from_sides or min(self.crop_from_sides) < 1:
            raise ValueError(f"crop_from_sides must be positive, got {self.crop_from_sides}")
        if not 1 <= self.crop_sides[0] <= self.crop_sides[1]:
            raise ValueError(
                f"crop_sides must be positive and in that order, got {self.crop_sides}"
            )

    def vary(
        self,
        picture: Image.Image,
        objects: Objects,
        *,
        generator: torch.Generator,
        with_polygons: bool = False,
    ) -> tuple[Tensor, Targets]:
        """Vary one image; see :func:`crop_and_resize`.

        Raises:
            ValueError: Polygons are asked for.
        """
        if with_polygons:
            raise ValueError("images that are cropped come without outlines; train without masks")
        return crop_and_resize(picture, objects, self, chance=GeneratorChance(generator))


@runtime_checkable
class Chance(Protocol):
    """What is drawn at random for an image, in the order that :func:`crop_and_resize` asks."""

    def happens(self, share: float) -> bool:
        """Something that happens in this fraction of the cases."""
        ...

    def index(self, count: int) -> int:
        """One of so many, from 0 on."""
        ...

    def between(self, low: int, high: int) -> int:
        """A whole number; both ends count."""
        ...

    def corner(self, room_hw: tuple[int, int]) -> tuple[int, int]:
        """Top and left of a part that has so many pixels of room below it and at its right."""
        ...


class GeneratorChance:
    """Draws from one generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def happens(self, share: float) -> bool:
        """See :class:`Chance`."""
        return bool(torch.rand(1, generator=self._generator) < share)

    def index(self, count: int) -> int:
        """See :class:`Chance`."""
        return int(torch.randint(count, (1,), generator=self._generator))

    def between(self, low: int, high: int) -> int:
        """See :class:`Chance`."""
        return low + self.index(high - low + 1)

    def corner(self, room_hw: tuple[int, int]) -> tuple[int, int]:
        """See :class:`Chance`."""
        return self.between(0, room_hw[0]), self.between(0, room_hw[1])


def crop_and_resize(
    picture: Image.Image,
    objects: Objects,
    augmentation: CroppingAugmentation,
    *,
    chance: Chance,
) -> tuple[Float[Tensor, "3 H W"], Targets]:
    """Vary one image.

    Crowds and objects without area are left out, and so is what lies outside the part that is cut
    out; boxes are clipped to it.

    Args:
        picture: RGB.
        objects: In pixels of ``picture``.
        augmentation: What may happen.
        chance: What does.

    Returns:
        RGB in [0, 1], and its targets in the same pixels.

    Source:
        facebookresearch/detr@29901c5 ``datasets/transforms.py``, ``datasets/coco.py``.
    """
    boxes = clip_boxes(objects.boxes, (picture.height, picture.width))
    is_kept = ~objects.is_crowd & nonempty(boxes)
    boxes, labels = boxes[is_kept], objects.labels[is_kept]
    if chance.happens(augmentation.flip_share):
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        boxes = mirrored(boxes, picture.width)
    # the order of the original: first whether the whole image is taken
    if not chance.happens(1 - augmentation.crop_share):
        sides = augmentation.crop_from_sides
        shortest = sides[chance.index(len(sides))]
        # no limit of the longer side
        size = detr_size(picture.size, shortest, shortest * max(picture.size))
        picture, boxes = _resized(picture, boxes, size, augmentation)
        picture, boxes = _cropped(picture, boxes, augmentation.crop_sides, chance)
        is_kept = nonempty(boxes)
        boxes, labels = boxes[is_kept], labels[is_kept]
    sides = augmentation.shortest_sides
    shortest = sides[chance.index(len(sides))]
    size = detr_size(picture.size, shortest, augmentation.longest_side)
    picture, boxes = _resized(picture, boxes, size, augmentation)
    return pixels_of(picture), Targets(boxes, labels)


def _resized(
    picture: Image.Image, boxes: Tensor, size: tuple[int, int], augmentation: CroppingAugmentation
) -> tuple[Image.Image, Tensor]:
    if size == picture.size:
        return picture, boxes
    scale = torch.tensor([size[0] / picture.width, size[1] / picture.height]).repeat(2)
    return picture.resize(size, FILTERS[augmentation.interpolation]), boxes * scale


def _cropped(
    picture: Image.Image, boxes: Tensor, sides: tuple[int, int], chance: Chance
) -> tuple[Image.Image, Tensor]:
    width, height = (
        chance.between(min(sides[0], side), min(sides[1], side)) for side in picture.size
    )
    top, left = chance.corner((picture.height - height, picture.width - width))
    part = picture.crop((left, top, left + width, top + height))
    return part, clip_boxes(boxes - torch.tensor([left, top, left, top]), (height, width))
