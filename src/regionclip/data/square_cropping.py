"""Squares cut from photographs by chance: what CLIP trains on."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.transforms import RandomResizedCrop

from .transforms import FILTERS, Interpolation, pixels_of

LARGEST_SEED = 2**62
"""Seeds are drawn below this, well within the 64 bits that torch takes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SquareCropping:
    """A part of each image, in random place, area and shape, squeezed into a square.

    Neither mirrored nor coloured.

    Source:
        CLIP's training (open_clip ``image_transform``); wusize/CLIM@7baade3 trains on captions with
        the same numbers.
    """

    side: int = 224
    """Pixels of the square."""
    areas: tuple[float, float] = (0.9, 1.0)
    """Least and largest fraction of the image's area that is seen."""
    ratios: tuple[float, float] = (3 / 4, 4 / 3)
    """Least and largest width of a part per height, drawn on a logarithmic scale."""
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        if self.side < 1:
            raise ValueError(f"side must be positive, got {self.side}")
        if not 0 < self.areas[0] <= self.areas[1] <= 1:
            raise ValueError(f"areas must be in (0, 1] and in that order, got {self.areas}")
        if not 0 < self.ratios[0] <= self.ratios[1]:
            raise ValueError(f"ratios must be positive and in that order, got {self.ratios}")

    @property
    def least_side(self) -> int:
        """See :class:`~.augmentation.WholeImageVariation`."""
        return self.side

    def vary_alone(
        self, picture: Image.Image, *, generator: torch.Generator
    ) -> tuple[Float[Tensor, "3 H W"], bool]:
        """Cut a part out and resize it; nothing is mirrored."""
        # torchvision draws from the global generator, which is others' too
        seed = int(torch.randint(LARGEST_SEED, (1,), generator=generator))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            size = torch.empty(3, picture.height, picture.width, device="meta")
            top, left, height, width = RandomResizedCrop.get_params(
                size, list(self.areas), list(self.ratios)
            )
        part = picture.crop((left, top, left + width, top + height))
        square = part.resize((self.side, self.side), FILTERS[self.interpolation])
        return pixels_of(square), False
