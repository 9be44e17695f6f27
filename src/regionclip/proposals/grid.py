"""A multi-scale grid of boxes: proposals where no network is at hand."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from regionclip.structures import PreparedImage, Proposals


@dataclass(frozen=True, kw_only=True, slots=True)
class SlidingGrid:
    """A proposer that covers every image with boxes of a few sizes and shapes.

    The whole image comes first, then the sizes in their order, each with its ratios, row by row.
    There is no objectness. The defaults make about 350 boxes on a square image.
    """

    sizes: tuple[float, ...] = (0.2, 0.4, 0.8)
    """Square roots of the boxes' areas, in shorter sides of the image."""
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Height over width; sides longer than the image's are cut."""
    step: float = 0.5
    """Most distance between neighbours, in sides of the box; 1 lays them edge to edge."""

    def __post_init__(self) -> None:
        if not all(size > 0 for size in self.sizes):
            raise ValueError(f"sizes must be positive, got {self.sizes}")
        if not all(ratio > 0 for ratio in self.aspect_ratios):
            raise ValueError(f"aspect_ratios must be positive, got {self.aspect_ratios}")
        if not 0 < self.step <= 1:
            raise ValueError(f"step must be in (0, 1], got {self.step}")

    def propose(self, images: Sequence[PreparedImage]) -> list[Proposals]:
        """The grid of each image; equal for images of equal size."""
        return [Proposals(self._boxes(image.size_hw)) for image in images]

    def _boxes(self, size_hw: tuple[int, int]) -> Float[Tensor, "R 4"]:
        height, width = size_hw
        boxes = [torch.tensor([[0.0, 0.0, width, height]])]
        for size in self.sizes:
            for ratio in self.aspect_ratios:
                side = size * min(size_hw)
                box_height = min(side * math.sqrt(ratio), float(height))
                box_width = min(side / math.sqrt(ratio), float(width))
                y0, x0 = torch.meshgrid(
                    self._starts(height, box_height),
                    self._starts(width, box_width),
                    indexing="ij",
                )
                sides = [x0, y0, x0 + box_width, y0 + box_height]
                boxes.append(torch.stack(sides, dim=-1).reshape(-1, 4))
        limit = torch.tensor([width, height, width, height])
        return torch.minimum(torch.cat(boxes), limit)

    def _starts(self, length: int, side: float) -> Float[Tensor, " N"]:
        """Where boxes of ``side`` start to cover ``length`` evenly, both ends included."""
        free = length - side
        return torch.linspace(0.0, free, steps=math.ceil(free / (self.step * side)) + 1)
