"""Polygons of objects as the small masks that regions on them are to predict."""

from collections.abc import Sequence

import numpy as np
import torch
from faster_coco_eval.core import mask as coco_mask
from jaxtyping import Bool, Float
from torch import Tensor

from regionclip.structures import Targets

from .boxes import LabelledRegions

_MIN_SIDE = 0.1
"""Pixels; a region is taken to be at least that wide and high. Source: as below."""


def mask_targets(
    regions: LabelledRegions, targets: Targets, *, grid: int
) -> Bool[Tensor, "F grid grid"]:
    """The mask of each region's object inside the region.

    Args:
        regions: Regions of one image; those on objects count.
        targets: The image's objects, in the pixels of the regions.
        grid: Cells a side.

    Returns:
        One row per region on an object, on the device of the regions.

    Raises:
        ValueError: An object has no polygon.
    """
    boxes = regions.boxes[: regions.num_foreground]
    masks = torch.zeros(len(boxes), grid, grid, dtype=torch.bool)
    objects = regions.target_index[: regions.num_foreground].tolist()
    for mask, box, index in zip(masks, boxes.cpu(), objects, strict=True):
        polygons = () if targets.polygons is None else targets.polygons[index]
        if not polygons:
            raise ValueError(
                f"object {index} at {targets.boxes[index].tolist()} has no polygon, but masks are "
                "trained; leave out its box, or train without masks"
            )
        mask.copy_(rasterize_polygons_within_box(polygons, box, grid=grid))
    return masks.to(boxes.device)


def rasterize_polygons_within_box(
    polygons: Sequence[Tensor], box: Float[Tensor, " 4"], *, grid: int
) -> Bool[Tensor, "grid grid"]:
    """Which cells of a grid over a box an object covers.

    Args:
        polygons: ``(P, 2)`` corners ``x, y`` each, in the frame of ``box``; their union counts,
            parts outside the box do not. A polygon needs three corners.
        box: ``xyxy``.
        grid: Cells a side.

    Returns:
        COCO's raster of the polygons after the box's corner is moved to the origin and its sides
        are stretched to ``grid``.

    Raises:
        ValueError: A polygon has fewer than three corners; COCO's code takes two for a box.

    Source:
        Mask R-CNN (arXiv:1703.06870), sec. 3; detectron2@e3ee0ab
        ``detectron2/structures/masks.py:rasterize_polygons_within_box``; COCO's ``maskApi.c``
        (``rleFrPoly``), of which faster-coco-eval is a copy.
    """
    if any(len(polygon) < 3 for polygon in polygons):
        raise ValueError(f"a polygon needs three corners, got {[len(each) for each in polygons]}")
    corner = box[:2].double()
    scale = grid / (box[2:] - box[:2]).clamp(min=_MIN_SIDE).double()
    covered = torch.zeros(grid, grid, dtype=torch.bool)
    for polygon in polygons:
        corners = ((polygon.double().cpu() - corner) * scale).flatten().tolist()
        [outline] = coco_mask.frPyObjects([corners], grid, grid)
        covered |= torch.from_numpy(np.asarray(coco_mask.decode(outline), dtype=bool))
    return covered
