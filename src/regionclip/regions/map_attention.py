"""Many boxes of one map through an attention pool without cutting out a single one.

ROIAlign is linear, and so are the pool's projections: both may come in either order. Projected
once on the map, keys meet a box's query before they are pooled, so that ROIAlign pools one number
per head instead of a whole key, and attention weights are spread back onto the map instead of
values being pooled. For a thousand boxes that is a sixtieth of the numbers.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from open_clip.modified_resnet import AttentionPool2d
from torch import Tensor
from torch.nn import functional as F

from .roi_align import RoiWeights, roi_weights

BOXES_PER_CHUNK = 256
"""Boxes at a time; RN50's 32 heads on a map of 25 x 33 cells then take 27 MB of scores."""


@dataclass(frozen=True, slots=True)
class AttentionMaps:
    """An attention pool's projections of one map, biases included.

    Attributes:
        query: One row of ``F`` numbers per cell, row by row.
        key: The same by head.
        value: The same by head.
        cell_key: What the pool's positions add to the keys of a box's bins.
        cell_value: What they add to the values.
        mean_query: What the first position adds to the query.
        map_hw: Rows and columns.
    """

    query: Float[Tensor, "cells F"]
    key: Float[Tensor, "heads cells f"]
    value: Float[Tensor, "heads cells f"]
    cell_key: Float[Tensor, "heads bins f"]
    cell_value: Float[Tensor, "heads bins f"]
    mean_query: Float[Tensor, " F"]
    map_hw: tuple[int, int]


def pool_boxes_on_map(
    layer4_map: Float[Tensor, "F h w"], boxes_cells: Float[Tensor, "R 4"], pool: AttentionPool2d
) -> Float[Tensor, "R D"]:
    """Vectors of boxes, close to those of :class:`~.region_head.RegionHead`, at little cost.

    Three things differ from layer4 and the whole attention pool on each box: layer4 saw the whole
    image; the mean of the cells asks but is not attended to; and what lies outside the map adds
    zero after the projections, not before, so that their biases count for the inside only.

    Args:
        layer4_map: One cell per 32 pixels.
        boxes_cells: ``xyxy`` in cells of the map; may reach outside it. Zero boxes are fine.
        pool: For its projections and positions.

    Returns:
        Not normalised.

    Source:
        CORA (arXiv:2303.13076), sec. 3, anchor pre-matching; tgxs002/CORA@c334a6d
        (``_sample_feature``). There three projected maps are ROI-aligned; the numbers are the same.
    """
    maps = _project(layer4_map, pool)
    num_bins = round(maps.cell_key.shape[1] ** 0.5)
    vectors = [boxes_cells.new_zeros(0, pool.c_proj.out_features)]
    for boxes in boxes_cells.split(BOXES_PER_CHUNK):
        weights = roi_weights(boxes, maps.map_hw, num_bins=num_bins, spatial_scale=1.0)
        answer = _attend(maps, weights)
        vectors.append(F.linear(answer, pool.c_proj.weight, pool.c_proj.bias))
    return torch.cat(vectors)


def _project(layer4_map: Tensor, pool: AttentionPool2d) -> AttentionMaps:
    cells = layer4_map.flatten(1).T
    heads, positions = pool.num_heads, pool.positional_embedding

    def by_head(rows: Tensor) -> Tensor:
        return rows.unflatten(1, (heads, -1)).transpose(0, 1)

    return AttentionMaps(
        query=F.linear(cells, pool.q_proj.weight, pool.q_proj.bias),
        key=by_head(F.linear(cells, pool.k_proj.weight, pool.k_proj.bias)),
        value=by_head(F.linear(cells, pool.v_proj.weight, pool.v_proj.bias)),
        # the biases are in the maps
        cell_key=by_head(F.linear(positions[1:], pool.k_proj.weight)),
        cell_value=by_head(F.linear(positions[1:], pool.v_proj.weight)),
        mean_query=F.linear(positions[0], pool.q_proj.weight),
        map_hw=(int(layer4_map.shape[1]), int(layer4_map.shape[2])),
    )


def _attend(maps: AttentionMaps, weights: RoiWeights) -> Float[Tensor, "R F"]:
    """What the mean of each box's bins sees in the bins."""
    heads, _, width = maps.key.shape
    # the mean over bins of separable weights is separable
    share = torch.einsum("rh,rw->rhw", weights.rows.mean(dim=1), weights.columns.mean(dim=1))
    query = share.flatten(1) @ maps.query + maps.mean_query
    query = query.unflatten(1, (heads, -1)).transpose(0, 1) * width**-0.5
    on_map = (query @ maps.key.transpose(1, 2)).unflatten(2, maps.map_hw)
    rows, columns = weights.rows, weights.columns
    pooled = rows @ on_map @ columns.transpose(1, 2)
    scores = pooled.flatten(2) + query @ maps.cell_key.transpose(1, 2)
    attention = scores.softmax(dim=-1)
    spread = rows.transpose(1, 2) @ attention.view_as(pooled) @ columns
    answer = spread.flatten(2) @ maps.value + attention @ maps.cell_value
    return answer.transpose(0, 1).flatten(1)
