"""Regions cut from the level of a feature pyramid that suits their size."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import roi_align

FINEST_SIDE = 56.0
"""Pixels: boxes of at least twice this side leave the finest level.

Source:
    FPN (arXiv:1612.03144), eq. 1, with 224 pixels on the level of stride 16; also where strides
    are 3.5 to 28 (mmdetection's ``SingleRoIExtractor``, ``finest_scale``).
"""


def pyramid_levels(
    boxes: Float[Tensor, "R 4"], *, num_levels: int, finest_side: float = FINEST_SIDE
) -> Int[Tensor, " R"]:
    """The level of each box, finest first.

    Args:
        boxes: ``xyxy``, pixels of the network's input.
        num_levels: Levels that regions are cut from.
        finest_side: Pixels; 14 cells of the finest level in FPN.

    Source:
        FPN (arXiv:1612.03144), eq. 1.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    scale = sides.clamp(min=0).prod(dim=1).sqrt()
    return torch.floor(torch.log2(scale / finest_side + 1e-6)).clamp(0, num_levels - 1).long()


def pyramid_roi_align(
    levels: Sequence[Float[Tensor, "B F _h _w"]],
    boxes: Sequence[Float[Tensor, "_ 4"]],
    *,
    strides: Sequence[int | float],
    num_bins: int,
    finest_side: float = FINEST_SIDE,
) -> Float[Tensor, "R F bins bins"]:
    """ROIAlign with half-pixel shift and adaptive sampling, on each box's own level.

    Args:
        levels: Maps of ``B`` images, finest first.
        boxes: Per image, ``xyxy`` in pixels of the network's input; none is fine.
        strides: Pixels per cell of each level.
        num_bins: Bins per side.
        finest_side: As of :func:`pyramid_levels`.

    Returns:
        Bins of the boxes, image after image.

    Source:
        Mask R-CNN (arXiv:1703.06870), sec. 3. torchvision's ``MultiScaleRoIAlign`` has no
        half-pixel shift.
    """
    index = torch.arange(len(boxes)).repeat_interleave(torch.tensor([len(own) for own in boxes]))
    flat = torch.cat(list(boxes)).to(levels[0].device)
    rois = torch.cat([index.to(flat)[:, None], flat], dim=1)
    level_of = pyramid_levels(flat, num_levels=len(levels), finest_side=finest_side)
    bins = levels[0].new_zeros(len(rois), int(levels[0].shape[1]), num_bins, num_bins)
    for number, (level, stride) in enumerate(zip(levels, strides, strict=True)):
        rows = (level_of == number).nonzero()[:, 0]
        if len(rows) == 0:
            continue
        own = roi_align(
            level, rois[rows].to(level), num_bins, 1 / stride, sampling_ratio=-1, aligned=True
        )
        bins = bins.index_copy(0, rows, own)
    return bins
