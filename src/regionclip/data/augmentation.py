"""Photographs for training: resized and flipped by chance, together with what is annotated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from regionclip.detections.box_coder import clip_boxes, nonempty
from regionclip.structures import Targets

from .datasets import Objects, Segmentation
from .transforms import Interpolation, resize_shortest_edge

MIN_SIDE = 1e-5
"""Pixels; objects whose box is no wider or higher after resizing teach nothing.

Source: facebookresearch/detectron2@e3ee0ab ``detectron2/structures/instances.py`` (``nonempty``
with ``box.min = 1e-5``).
"""


@runtime_checkable
class WholeImageVariation(Protocol):
    """How images vary of which no object is known."""

    @property
    def least_side(self) -> int:
        """Pixels of the shorter side of an image that comes out, as a rule; fewer are too few."""
        ...

    def vary_alone(
        self, picture: Image.Image, *, generator: torch.Generator
    ) -> tuple[Float[Tensor, "3 H W"], bool]:
        """Vary an RGB image; it comes out in [0, 1], with whether it is mirrored."""
        ...


@runtime_checkable
class ObjectVariation(Protocol):
    """How images vary together with what is annotated in them."""

    def vary(
        self,
        picture: Image.Image,
        objects: Objects,
        *,
        generator: torch.Generator,
        with_polygons: bool = False,
    ) -> tuple[Tensor, Targets]:
        """Vary an RGB image; it comes out in [0, 1], ``(3, H, W)``, its targets in its pixels.

        Args:
            picture: RGB.
            objects: In pixels of ``picture``; crowds and those without area are left out.
            generator: Its chance.
            with_polygons: Take the objects' outlines along.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """How images vary.

    Source:
        microsoft/RegionCLIP@4b8513b ``configs/Base-RCNN-C4.yaml`` (``INPUT.MIN_SIZE_TRAIN``).
    """

    shortest_sides: tuple[int, ...] = (640, 672, 704, 736, 768, 800)
    """Pixels; one is drawn per image for its shorter side."""
    longest_side: int = 1333
    """Most pixels of the longer side."""
    flip_share: float = 0.5
    """Fraction of the images that are mirrored, left to right."""
    interpolation: Interpolation = "bilinear"
    """Filter that images are resized with; RegionCLIP's pretraining has ``bicubic``."""

    def __post_init__(self) -> None:
        if not self.shortest_sides or min(self.shortest_sides) < 1:
            raise ValueError(f"shortest_sides must be positive, got {self.shortest_sides}")
        if self.longest_side < max(self.shortest_sides):
            raise ValueError(
                f"longest_side {self.longest_side} is less than the shortest side "
                f"{max(self.shortest_sides)}"
            )
        if not 0 <= self.flip_share <= 1:
            raise ValueError(f"flip_share must be in [0, 1], got {self.flip_share}")

    @property
    def least_side(self) -> int:
        """See :class:`WholeImageVariation`."""
        return min(self.shortest_sides)

    def vary_alone(
        self, picture: Image.Image, *, generator: torch.Generator
    ) -> tuple[Tensor, bool]:
        """Vary an image without objects; see :func:`resize_and_flip`."""
        return resize_and_flip(picture, self, generator=generator)

    def vary(
        self,
        picture: Image.Image,
        objects: Objects,
        *,
        generator: torch.Generator,
        with_polygons: bool = False,
    ) -> tuple[Tensor, Targets]:
        """Vary one image; see :func:`augment`."""
        return augment(picture, objects, self, generator=generator, with_polygons=with_polygons)


def resize_and_flip(
    picture: Image.Image, augmentation: Augmentation, *, generator: torch.Generator
) -> tuple[Tensor, bool]:
    """Vary an image alone.

    Args:
        picture: RGB.
        augmentation: What may happen.
        generator: Its chance.

    Returns:
        ``(3, H, W)`` in [0, 1], and whether it is mirrored.
    """
    choice = int(torch.randint(len(augmentation.shortest_sides), (1,), generator=generator))
    is_flipped = bool(torch.rand(1, generator=generator) < augmentation.flip_share)
    pixels = resize_shortest_edge(
        picture,
        shortest=augmentation.shortest_sides[choice],
        longest=augmentation.longest_side,
        interpolation=augmentation.interpolation,
    )
    return pixels.flip(2) if is_flipped else pixels, is_flipped


def mirrored(boxes: Float[Tensor, "N 4"], width: int) -> Float[Tensor, "N 4"]:
    """Boxes of an image of that width once it is mirrored, left to right."""
    return torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)


def augment(
    picture: Image.Image,
    objects: Objects,
    augmentation: Augmentation,
    *,
    generator: torch.Generator,
    with_polygons: bool = False,
) -> tuple[Tensor, Targets]:
    """Vary one image.

    Crowds are left out, boxes are clipped to the image, and objects without area are left out.

    Args:
        picture: RGB.
        objects: In pixels of ``picture``.
        augmentation: What may happen.
        generator: Its chance.
        with_polygons: Take the objects' outlines along; objects without one are left out.

    Returns:
        ``(3, H, W)`` in [0, 1], and its targets in the same pixels.
    """
    pixels, is_flipped = resize_and_flip(picture, augmentation, generator=generator)
    height, width = int(pixels.shape[1]), int(pixels.shape[2])
    scale = torch.tensor([width / picture.width, height / picture.height])
    boxes = objects.boxes * scale.repeat(2)
    if is_flipped:
        boxes = mirrored(boxes, width)
    boxes = clip_boxes(boxes, (height, width))
    kept = ~objects.is_crowd & nonempty(boxes, min_side=MIN_SIDE)
    polygons = None
    if with_polygons:
        outlines = [
            _polygons(each, scale, width if is_flipped else None)
            for each in objects.segmentations or [None] * len(objects)
        ]
        kept &= torch.tensor([bool(each) for each in outlines], dtype=torch.bool)
        polygons = tuple(outlines[row] for row in kept.nonzero()[:, 0].tolist())
    return pixels, Targets(boxes[kept], objects.labels[kept], polygons)


def _polygons(
    segmentation: Segmentation, scale: Tensor, mirrored_width: int | None
) -> tuple[Tensor, ...]:
    """Outlines in the resized image; none for run-length encodings, which are crowds' as a rule."""
    if not isinstance(segmentation, Sequence):
        return ()
    polygons = []
    for flat in segmentation:
        if len(flat) < 6 or len(flat) % 2:  # no area, as detectron2 leaves them out
            continue
        points = torch.tensor(flat, dtype=torch.float32).reshape(-1, 2) * scale
        if mirrored_width is not None:
            points[:, 0] = mirrored_width - points[:, 0]
        polygons.append(points)
    return tuple(polygons)
