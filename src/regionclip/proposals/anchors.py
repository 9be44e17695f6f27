"""Anchors: the fixed boxes around each map cell that a proposal network corrects."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def cell_anchors(sizes: Sequence[float], aspect_ratios: Sequence[float]) -> Float[Tensor, "A 4"]:
    """Anchors of one cell, centred on (0, 0), not rounded: sizes outer, ratios inner.

    Args:
        sizes: Square roots of the anchors' areas, in pixels.
        aspect_ratios: Height over width; the area stays.

    Source:
        Faster R-CNN (arXiv:1506.01497), sec. 3.1.1; facebookresearch/detectron2@e3ee0ab
        ``detectron2/modeling/anchor_generator.py:generate_cell_anchors``.
    """
    halves = []
    for size in sizes:
        for ratio in aspect_ratios:
            width = (size * size / ratio) ** 0.5
            halves.append((width / 2, ratio * width / 2))
    half = torch.tensor(halves, dtype=torch.float32).reshape(-1, 2)
    return torch.cat([-half, half], dim=1)


def grid_anchors(
    cell: Float[Tensor, "A 4"], map_hw: tuple[int, int], *, stride: int | float
) -> Float[Tensor, "N 4"]:
    """Anchors of a whole map in (row, column, anchor) order.

    Args:
        cell: Anchors of one cell, around (0, 0).
        map_hw: Cells of the map.
        stride: Pixels per cell, perhaps with a fraction; cell (y, x) is centred on
            ``(x * stride, y * stride)``.
    """
    height, width = map_hw
    rows = torch.arange(height, dtype=cell.dtype, device=cell.device) * stride
    columns = torch.arange(width, dtype=cell.dtype, device=cell.device) * stride
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    centers = torch.stack([x, y, x, y], dim=-1)
    return (centers[:, :, None] + cell).reshape(-1, 4)
