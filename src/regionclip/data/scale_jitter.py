"""Photographs for training at very different scales: resized, perhaps cut to a square."""

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from regionclip.detections.box_coder import clip_boxes, nonempty
from regionclip.structures import Targets

from .augmentation import Augmentation, augment
from .datasets import Objects

MIN_SIDE = 1e-2
"""Pixels; what is left of an object in a part of its image teaches nothing if it is smaller.

Source: mmdetection's ``FilterAnnotations(min_gt_bbox_wh=(1e-2, 1e-2))``, as used with scale jitter.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaleJitter(Augmentation):
    """How images vary: resized by a random factor, cut to a square where they exceed it, mirrored.

    A network pads images that end up smaller.

    Source:
        Simple Copy-Paste (arXiv:2012.07177), sec. 3, "large scale jittering"; numbers of F-ViT
        on OV-COCO.
    """

    shortest_sides: tuple[int, ...] = (640,)
    """Pixels of the shorter side at factor 1, unless the longer one would exceed its limit."""
    longest_side: int = 640
    """Most pixels of the longer side at factor 1, and the square's side."""
    factors: tuple[float, float] = (0.1, 2.0)
    """Least and greatest factor; any between is as likely."""

    def __post_init__(self) -> None:
        Augmentation.__post_init__(self)
        if not 0 < self.factors[0] <= self.factors[1]:
            raise ValueError(f"factors must be positive and in that order, got {self.factors}")

    def vary(
        self,
        picture: Image.Image,
        objects: Objects,
        *,
        generator: torch.Generator,
        with_polygons: bool = False,
    ) -> tuple[Tensor, Targets]:
        """Vary one image; as :func:`~regionclip.data.augmentation.augment`, then cut.

        Objects outside the square are left out, boxes are clipped to it, and outlines are moved.
        """
        low, high = self.factors
        factor = low + (high - low) * float(torch.rand(1, generator=generator))
        resized = Augmentation(
            shortest_sides=tuple(_scaled(side, factor) for side in self.shortest_sides),
            longest_side=_scaled(self.longest_side, factor),
            flip_share=self.flip_share,
            interpolation=self.interpolation,
        )
        pixels, targets = augment(
            picture, objects, resized, generator=generator, with_polygons=with_polygons
        )
        top, left = (
            int(torch.randint(max(int(side) - self.longest_side, 0) + 1, (1,), generator=generator))
            for side in pixels.shape[1:]
        )
        part = pixels[:, top : top + self.longest_side, left : left + self.longest_side]
        return part.contiguous(), _cut(targets, top, left, (part.shape[1], part.shape[2]))


def _scaled(side: int, factor: float) -> int:
    return max(round(side * factor), 1)


def _cut(targets: Targets, top: int, left: int, size_hw: tuple[int, int]) -> Targets:
    """What a part of the image is to teach."""
    corner = torch.tensor([left, top], dtype=torch.float32)
    boxes = clip_boxes(targets.boxes - corner.repeat(2), size_hw)
    kept = nonempty(boxes, min_side=MIN_SIDE)
    polygons = None
    if targets.polygons is not None:
        polygons = tuple(
            tuple(outline - corner for outline in targets.polygons[row])
            for row in kept.nonzero()[:, 0].tolist()
        )
    return Targets(boxes[kept], targets.labels[kept], polygons)
