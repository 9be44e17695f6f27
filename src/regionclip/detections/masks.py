"""Masks as grids over boxes, pasted into images."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

PIXELS_AT_ONCE = 1 << 22
"""Pixels sampled in one step: about 70 MB of intermediate results."""


def predict_masks(
    cells_of: Callable[[Tensor], Tensor],
    mask_head: nn.Module,
    boxes: Float[Tensor, "N 4"],
    region_index: Int[Tensor, " N"],
) -> Float[Tensor, "N h w"]:
    """Masks of detections; a region that is detected as several classes is looked at once.

    Args:
        cells_of: Boxes ``(R, 4)`` to an encoder's last cells ``(R, C, g, g)``.
        mask_head: Those cells to one channel of logits, the same for every class.
        boxes: ``xyxy``, as ``cells_of`` takes them.
        region_index: Detections with the same index have the same box.

    Returns:
        Grids of probabilities over the boxes, on the CPU; zero boxes are fine.
    """
    regions, region = region_index.unique(return_inverse=True)
    own_boxes = boxes.new_zeros(len(regions), 4)
    own_boxes[region] = boxes
    logits = mask_head(cells_of(own_boxes))
    return logits[:, 0].sigmoid()[region.to(logits.device)].cpu()


def paste_masks(
    mask_probs: Float[Tensor, "N h w"],
    boxes: Float[Tensor, "N 4"],
    size_hw: tuple[int, int],
    *,
    threshold: float = 0.5,
) -> Bool[Tensor, "N H W"]:
    """Stretch each grid over its box and cut it at ``threshold``.

    A pixel takes the bilinear value of the grid at the pixel's centre; beyond the outermost
    cell centres the grid fades to 0. Only the pixels around each box are computed, so memory is the
    result's own plus a bounded amount.

    Args:
        mask_probs: In [0, 1], any grid size.
        boxes: ``xyxy``, pixels of the image to paste into; an empty box gives an empty mask.
        size_hw: Height and width of that image.
        threshold: A pixel belongs to the mask from this value on.

    Source:
        facebookresearch/detectron2@e3ee0ab ``detectron2/layers/mask_ops.py:paste_masks_in_image``
        (``grid_sample`` with ``align_corners=False``).
    """
    height, width = size_hw
    pasted = torch.zeros(len(boxes), height, width, dtype=torch.bool, device=mask_probs.device)
    for grid, box, mask in zip(mask_probs.float(), boxes.tolist(), pasted, strict=True):
        x0, y0, x1, y1 = box
        if not (x1 > x0 and y1 > y0):
            continue
        columns = _touched_pixels(x0, x1, width)
        rows = _touched_pixels(y0, y1, height)
        band = max(1, PIXELS_AT_ONCE // max(1, len(columns)))
        for top in range(rows.start, rows.stop, band):
            band_rows = range(top, min(top + band, rows.stop))
            values = _sample(grid, _positions(band_rows, y0, y1), _positions(columns, x0, x1))
            mask[top : band_rows.stop, columns.start : columns.stop] = values >= threshold
    return pasted


def _touched_pixels(start: float, stop: float, size: int) -> range:
    """Pixels that an interval can colour: one more on each side, inside the image."""
    return range(max(0, math.floor(start) - 1), min(size, math.ceil(stop) + 1))


def _positions(pixels: range, start: float, stop: float) -> Tensor:
    """Centres of ``pixels`` in units of the interval, -1 at its start and 1 at its end."""
    centers = torch.arange(pixels.start, pixels.stop, dtype=torch.float32) + 0.5
    return (centers - start) / (stop - start) * 2 - 1


def _sample(grid: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Bilinear values of ``grid`` at every pair of a row and a column position."""
    y, x = torch.meshgrid(rows.to(grid), columns.to(grid), indexing="ij")
    points = torch.stack([x, y], dim=2)
    return F.grid_sample(grid[None, None], points[None], align_corners=False)[0, 0]
