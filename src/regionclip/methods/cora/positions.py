"""Where cells and boxes are, as sines and cosines.

Cells and boxes are encoded with different temperatures, and a box in the order y, x, w, h: trained
weights depend on both.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MAP_TEMPERATURE = 20.0
"""Of cells; DAB-DETR (arXiv:2201.12329), sec. 4; tgxs002/CORA@c334a6d ``--pe_temperature``."""
BOX_TEMPERATURE = 10000.0
"""Of the boxes; Transformer (arXiv:1706.03762), sec. 3.5."""


def map_positions(
    padding: Bool[Tensor, "B h w"], *, channels: int, temperature: float = MAP_TEMPERATURE
) -> Float[Tensor, "B h w P"]:
    """Encode each cell's place in its image.

    Args:
        padding: Cells that are no part of the image: those after its last row or column.
        channels: ``P``, half for the row and then half for the column; a multiple of 4.
        temperature: Ratio of the longest wave to the shortest.

    Source:
        DETR (arXiv:2005.12872), appendix A.4, of cells' centres; tgxs002/CORA@c334a6d.
    """
    inside = (~padding).float()
    places = []
    for axis in (1, 2):
        count = inside.cumsum(axis)
        # the centre of a cell as a share of the image's cells
        place = (count - 0.5) / (count.narrow(axis, -1, 1) + 1e-6)
        places.append(_waves(place, channels // 2, temperature))
    return torch.cat(places, dim=-1)


def box_positions(
    boxes_cxcywh: Float[Tensor, "*N 4"], *, channels: int, temperature: float = BOX_TEMPERATURE
) -> Float[Tensor, "*N P"]:
    """Encode normalised boxes, in the order y, x, width, height.

    Args:
        boxes_cxcywh: Shares of the image's sides, in [0, 1].
        channels: ``P``, a quarter for each number; a multiple of 8.
        temperature: Ratio of the longest wave to the shortest.

    Source:
        DAB-DETR (arXiv:2201.12329), sec. 4; the order is that of tgxs002/CORA@c334a6d.
    """
    order = boxes_cxcywh[..., [1, 0, 2, 3]]
    return _waves(order, channels // 4, temperature).flatten(-2)


def _waves(places: Tensor, channels: int, temperature: float) -> Tensor:
    """``(*N)`` in [0, 1] to ``(*N, channels)``: sine and cosine of each frequency in turn."""
    steps = torch.arange(0, channels, 2, device=places.device, dtype=torch.float32)
    frequencies = 2 * math.pi / temperature ** (steps / channels)
    angles = places[..., None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)
