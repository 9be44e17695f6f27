"""Boxes anywhere and of any shape: what a proposal network has to be better than."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import torch
from jaxtyping import Float
from torch import Tensor

from regionclip.structures import PreparedImage, Proposals

PIXELS_LOOKED_AT = 16
"""Rows and columns that tell one image from another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomBoxes:
    """A proposer that draws boxes by chance, for an image always the same.

    The square root of a box's area and its aspect ratio are drawn evenly on a logarithmic scale,
    its place evenly from all where it is inside the image. What is drawn depends on the seed, the
    image's name and a few of its pixels, so that batches whose images have no name of their own get
    other boxes each time, and an image that training mirrors or resizes, too. There is no
    objectness.
    """

    count: int = 300
    """Boxes of an image."""
    sizes: tuple[float, float] = (0.1, 0.9)
    """Least and most square root of the area, in shorter sides of the image."""
    aspect_ratios: tuple[float, float] = (0.5, 2.0)
    """Least and most height over width; sides longer than the image's are cut."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count must be at least 1, got {self.count}")
        for name in ("sizes", "aspect_ratios"):
            least, most = getattr(self, name)
            if not 0 < least <= most:
                raise ValueError(f"{name} must be positive and rise, got {getattr(self, name)}")

    def propose(self, images: Sequence[PreparedImage]) -> list[Proposals]:
        """Boxes of each image, in the order in which they were drawn."""
        return [Proposals(self._boxes(image)) for image in images]

    def _boxes(self, image: PreparedImage) -> Float[Tensor, "R 4"]:
        size_hw = image.size_hw
        step_y, step_x = (-(-side // PIXELS_LOOKED_AT) for side in size_hw)
        looked_at = image.pixels[:, ::step_y, ::step_x].float().cpu().contiguous()
        digest = blake2b(f"{self.seed} {image.name}".encode(), digest_size=7)
        digest.update(looked_at.numpy().tobytes())
        generator = torch.Generator().manual_seed(int.from_bytes(digest.digest()))
        size, ratio, place_x, place_y = torch.rand(4, self.count, generator=generator)
        height, width = size_hw
        side = min(size_hw) * _between(size, self.sizes)
        stretch = _between(ratio, self.aspect_ratios).sqrt()
        box_width, box_height = (
            (side / stretch).clamp(max=width),
            (side * stretch).clamp(max=height),
        )
        x0, y0 = place_x * (width - box_width), place_y * (height - box_height)
        x1, y1 = (x0 + box_width).clamp(max=width), (y0 + box_height).clamp(max=height)
        return torch.stack([x0, y0, x1, y1], dim=1)


def _between(share: Tensor, bounds: tuple[float, float]) -> Tensor:
    """From the first bound (0) to the second (1), evenly in logarithms."""
    low, high = map(math.log, bounds)
    return (low + share * (high - low)).exp()
