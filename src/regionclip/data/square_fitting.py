"""Annotated images fitted into squares, and nothing left to chance."""

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from regionclip.detections.box_coder import clip_boxes, nonempty
from regionclip.structures import Targets

from .datasets import Objects
from .letterbox import fit_at_corner
from .transforms import pixels_of


@dataclass(frozen=True, kw_only=True, slots=True)
class SquareFitting:
    """Each image in the upper left of a square, the rest black, with its first objects.

    Source: wusize/CLIPSelf@1c7fe9c ``--det-image-size 1024 --max-boxes 20``.
    """

    side: int = 1024
    """Pixels of the square."""
    max_objects: int = 20
    """Objects of an image that are learned from, in the file's order."""

    def __post_init__(self) -> None:
        if self.side < 1 or self.max_objects < 1:
            raise ValueError(
                f"side and max_objects must be positive, got {self.side} and {self.max_objects}"
            )

    def vary(
        self,
        picture: Image.Image,
        objects: Objects,
        *,
        generator: torch.Generator,
        with_polygons: bool = False,
    ) -> tuple[Tensor, Targets]:
        """Fit one image; see :class:`~.augmentation.ObjectVariation`.

        Raises:
            ValueError: Polygons are asked for.
        """
        if with_polygons:
            raise ValueError("images fitted into squares come without outlines")
        size_hw = (picture.height, picture.width)
        boxes = clip_boxes(objects.boxes, size_hw)
        rows = (~objects.is_crowd & nonempty(boxes)).nonzero()[: self.max_objects, 0]
        scale = self.side / max(size_hw)
        return (
            pixels_of(fit_at_corner(picture, self.side)),
            Targets(boxes[rows] * scale, objects.labels[rows]),
        )
