"""Which cells of a pyramid are centres of which objects, and how near to one the others are."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

SIZE_RANGES = ((0.0, 80.0), (64.0, 160.0), (128.0, 320.0), (256.0, 640.0), (512.0, 10_000_000.0))
"""Sides, as half of a box's diagonal, of the objects of each level, finest first; they overlap.

Source: FCOS (arXiv:1904.01355), sec. 3.2, a level's range from the next one's on; overlapping as in
Probabilistic two-stage detection (arXiv:2103.07461), sec. 5.
"""
MIN_OVERLAP = 0.8
"""A box of an object's size, moved along one side by a Gaussian's deviation, still overlaps the
object so much; the rule is CornerNet's (arXiv:1808.01244), sec. 3.2."""
MIN_RADIUS = 4.0
"""Pixels; what is smaller falls off over half a cell of the finest level."""
BACKGROUND_BELOW = 1e-4
"""A heatmap so near to 0 is 0."""


@dataclass(frozen=True, slots=True)
class CenterTargets:
    """What the cells of all levels are to say of one image.

    Attributes:
        heatmap: In [0, 1]: 1 at centres, falling off around them.
        center_rows: Cells that are centres; an object that several levels are for has several.
        box_rows: Cells that learn the box of an object: those of the 3 by 3 around its centre.
        box_targets: The object of each of ``box_rows``.
    """

    heatmap: Float[Tensor, " N"]
    center_rows: Int[Tensor, " P"]
    box_rows: Int[Tensor, " Q"]
    box_targets: Int[Tensor, " Q"]


def center_targets(
    points: Sequence[Float[Tensor, "_ 2"]],
    strides: Sequence[int],
    boxes: Float[Tensor, "G 4"],
) -> CenterTargets:
    """What each cell is to say.

    Where objects overlap a cell learns of the one whose centre it is nearest to, by their sizes.

    Args:
        points: Per level, the cells' middles in pixels.
        strides: Pixels per cell of each level.
        boxes: ``xyxy``, the image's objects; none makes every cell background.

    Source:
        Objects as Points (arXiv:1904.07850), sec. 3; Probabilistic two-stage detection
        (arXiv:2103.07461), sec. 5.
    """
    flat = torch.cat(list(points))
    stride = torch.cat(
        [flat.new_full((len(own),), step) for own, step in zip(points, strides, strict=True)]
    )
    if len(boxes) == 0:
        none = torch.zeros(0, dtype=torch.int64, device=flat.device)
        return CenterTargets(flat.new_zeros(len(flat)), none, none, none)
    is_level_for = _levels_of(points, boxes)
    cell = _cells_of_centers(boxes, stride)
    distance = (flat[:, None] - cell).square().sum(dim=2)
    is_center = (distance == 0) & is_level_for
    offsets = ((flat[:, None] - cell).abs() / stride[:, None, None]).amax(dim=2)
    weighted = torch.where(is_center, 0.0, _to_center(flat, boxes)) / _squared_radii(boxes)
    weighted = weighted.masked_fill(~is_level_for, torch.inf)
    heat = torch.exp(-weighted.amin(dim=1))
    heat = torch.where(heat < BACKGROUND_BELOW, 0.0, heat)
    is_box = (offsets <= 1) & _are_inside(flat, boxes) & is_level_for
    nearest, target = weighted.masked_fill(~is_box, torch.inf).min(dim=1)
    rows = nearest.isfinite().nonzero()[:, 0]
    return CenterTargets(heat, is_center.any(dim=1).nonzero()[:, 0], rows, target[rows])


def _levels_of(points: Sequence[Tensor], boxes: Tensor) -> Bool[Tensor, "N G"]:
    """Whether the level of each cell is one for each object."""
    half_diagonal = (boxes[:, 2:] - boxes[:, :2]).square().sum(dim=1).sqrt() / 2
    rows = [
        ((half_diagonal >= low) & (half_diagonal <= high)).expand(len(own), -1)
        for own, (low, high) in zip(points, SIZE_RANGES, strict=True)
    ]
    return torch.cat(rows)


def _cells_of_centers(boxes: Tensor, stride: Tensor) -> Float[Tensor, "N G 2"]:
    """The middle of the cell that each object's centre lies in, on the level of each cell."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    step = stride[:, None, None]
    return torch.floor(centers / step) * step + torch.floor(step / 2)


def _to_center(flat: Tensor, boxes: Tensor) -> Float[Tensor, "N G"]:
    """Squared distances of cells to objects' centres."""
    return (flat[:, None] - (boxes[:, :2] + boxes[:, 2:]) / 2).square().sum(dim=2)


def _squared_radii(boxes: Tensor) -> Float[Tensor, " G"]:
    """Twice the variance of each object's Gaussian."""
    share = (1 - MIN_OVERLAP) / (1 + MIN_OVERLAP)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    return (2 * share**2 * areas).clamp(min=MIN_RADIUS**2)


def _are_inside(flat: Tensor, boxes: Tensor) -> Bool[Tensor, "N G"]:
    near, far = flat[:, None] - boxes[:, :2], boxes[:, 2:] - flat[:, None]
    return (torch.cat([near, far], dim=2) > 0).all(dim=2)
