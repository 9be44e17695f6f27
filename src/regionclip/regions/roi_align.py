"""ROIAlign as two small matrix products, on any device.

Bilinear interpolation is separable: the value of a bin is a weighted sum over map rows and map
columns, with weights that depend on the box alone. Writing the weights down turns ROIAlign into
``rows @ map @ columns.T``, which uses every core and the matrix units, where torchvision's CPU
kernel runs on one thread; and a grid that is pooled 2x2 afterwards costs half as much, because the
pooling folds into the weights.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True, slots=True)
class RoiWeights:
    """Interpolation weights of some boxes on one map; each bin is ``rows @ map @ columns.T``.

    Attributes:
        rows: One row of weights over the map's rows per bin. A row sums to one where all sampling
            points lie inside the map, to less where some lie outside (those count as zero).
        columns: Likewise over the map's columns.
    """

    rows: Float[Tensor, "R bins h"]
    columns: Float[Tensor, "R bins w"]

    def halved(self) -> "RoiWeights":
        """Weights of the grid after 2x2 average pooling: neighbouring bins averaged."""
        return RoiWeights(_pair_means(self.rows), _pair_means(self.columns))


def roi_weights(
    boxes: Float[Tensor, "R 4"], map_hw: tuple[int, int], *, num_bins: int, spatial_scale: float
) -> RoiWeights:
    """Interpolation weights of ROIAlign with half-pixel shift and adaptive sampling.

    Args:
        boxes: ``xyxy``, pixels of the network's input; zero boxes are fine.
        map_hw: Rows and columns of the map.
        num_bins: Bins per side.
        spatial_scale: Map cells per input pixel, 1/16 for a stride of 16.

    Source:
        Mask R-CNN (arXiv:1703.06870), sec. 3; torchvision ``roi_align(aligned=True,
        sampling_ratio=-1)``: ``ceil(side / num_bins)`` sampling points per bin and side.
    """
    cells = boxes * spatial_scale - 0.5
    rows = _axis_weights(cells[:, 1], cells[:, 3], map_hw[0], num_bins)
    columns = _axis_weights(cells[:, 0], cells[:, 2], map_hw[1], num_bins)
    return RoiWeights(rows, columns)


def pool_with_weights(
    channels_last_map: Float[Tensor, "h w F"], weights: RoiWeights
) -> Float[Tensor, "R F bins bins"]:
    """Pool one map with interpolation weights, in the map's precision.

    Args:
        channels_last_map: Map with the channels innermost.
        weights: From :func:`roi_weights`.

    Returns:
        Bins of every box, channels first in shape, channels last in memory.
    """
    weights = RoiWeights(
        weights.rows.to(channels_last_map.dtype), weights.columns.to(channels_last_map.dtype)
    )
    if channels_last_map.is_cuda:
        bins = _pool_in_one_batch(channels_last_map, weights)
    else:
        bins = _PoolBySupport.apply(channels_last_map, weights.rows, weights.columns)
    return bins.permute(0, 3, 1, 2)


def _pool_in_one_batch(channels_last_map: Tensor, weights: RoiWeights) -> Tensor:
    """``(R, bins, bins, F)`` over the whole map: two products, no host synchronisation."""
    height, width, channels = channels_last_map.shape
    num_boxes, num_bins, _ = weights.rows.shape
    by_row = weights.rows.reshape(-1, height) @ channels_last_map.reshape(height, -1)
    by_row = by_row.reshape(num_boxes, num_bins, width, channels)
    return torch.einsum("rjw,riwf->rijf", weights.columns, by_row)


class _PoolBySupport(torch.autograd.Function):
    """The same box by box, on the cells each box covers: a ninth of the work, in the cache.

    Pooling is linear in the map, so the backward pass needs the weights alone.
    """

    @staticmethod
    def forward(ctx: Any, channels_last_map: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """``(R, bins, bins, F)``."""
        ctx.save_for_backward(rows, columns)
        with torch.autocast(channels_last_map.device.type, enabled=False):
            return _pool_by_support(channels_last_map, RoiWeights(rows, columns))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """``(h, w, F)``; no gradient of the weights."""
        return _spread_by_support(gradient, RoiWeights(*ctx.saved_tensors)), None, None


def _pool_by_support(channels_last_map: Tensor, weights: RoiWeights) -> Tensor:
    num_boxes, num_bins, _ = weights.rows.shape
    bins = channels_last_map.new_empty(num_boxes, num_bins, num_bins, channels_last_map.shape[2])
    supports = zip(_support(weights.rows), _support(weights.columns), strict=True)
    for box, ((top, bottom), (left, right)) in enumerate(supports):
        crop = channels_last_map[top:bottom, left:right]
        columns = weights.columns[box, :, left:right].expand(len(crop), -1, -1)
        by_column = torch.bmm(columns, crop).reshape(len(crop), num_bins * crop.shape[2])
        rows = weights.rows[box, :, top:bottom]
        torch.mm(rows, by_column, out=bins[box].view(num_bins, -1))
    return bins


def _spread_by_support(gradient: Tensor, weights: RoiWeights) -> Tensor:
    """The transpose of :func:`_pool_by_support`: each bin's gradient, back onto its cells."""
    num_bins, height = weights.rows.shape[1:]
    # summed in float32: hundreds of boxes share a cell
    spread = torch.zeros(height, weights.columns.shape[2], gradient.shape[3])
    gradient = gradient.contiguous()
    supports = zip(_support(weights.rows), _support(weights.columns), strict=True)
    for box, ((top, bottom), (left, right)) in enumerate(supports):
        rows = weights.rows[box, :, top:bottom].T
        by_row = torch.mm(rows, gradient[box].view(num_bins, -1)).unflatten(1, (num_bins, -1))
        columns = weights.columns[box, :, left:right].T.expand(bottom - top, -1, -1)
        spread[top:bottom, left:right] += torch.bmm(columns, by_row)
    return spread.to(gradient.dtype)


def _support(weights: Tensor) -> list[tuple[int, int]]:
    """First and one past the last position that each box gives weight to."""
    used = (weights != 0).any(dim=1)
    position = torch.arange(weights.shape[2], device=weights.device)
    ends = torch.where(used, position + 1, 0).amax(dim=1)
    starts = torch.minimum(torch.where(used, position, weights.shape[2]).amin(dim=1), ends)
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def roi_align(
    feature_map: Float[Tensor, "B F h w"],
    boxes: Float[Tensor, "R 4"],
    image_index: Int[Tensor, " R"],
    *,
    num_bins: int,
    spatial_scale: float,
) -> Float[Tensor, "R F bins bins"]:
    """ROIAlign with half-pixel shift (``aligned=True``) and adaptive sampling.

    Args:
        feature_map: One map per image.
        boxes: ``xyxy``, pixels of the network's input, of all images.
        image_index: Which map each box is on; in increasing order.
        num_bins: Bins per side.
        spatial_scale: Map cells per input pixel.
    """
    size = (int(feature_map.shape[2]), int(feature_map.shape[3]))
    channels_last = feature_map.permute(0, 2, 3, 1)
    pooled = []
    for image, image_map in enumerate(channels_last):
        own = boxes[image_index == image]
        weights = roi_weights(own, size, num_bins=num_bins, spatial_scale=spatial_scale)
        pooled.append(pool_with_weights(image_map, weights))
    return torch.cat(pooled)


def roi_align_whole(
    feature_map: Float[Tensor, "B F h w"], *, num_bins: int
) -> Float[Tensor, "B F bins bins"]:
    """ROIAlign of one box per image that covers its whole map: two products for the whole batch.

    Args:
        feature_map: One map per image, all of one size.
        num_bins: Bins per side.
    """
    batch, _, height, width = feature_map.shape
    whole = feature_map.new_tensor([[0, 0, width, height]])
    weights = roi_weights(whole, (height, width), num_bins=num_bins, spatial_scale=1.0)
    rows, columns = weights.rows[0], weights.columns[0]
    by_column = columns @ feature_map.permute(0, 2, 3, 1).flatten(0, 1)
    bins = rows @ by_column.view(batch, height, -1)
    return bins.view(batch, num_bins, num_bins, -1).permute(0, 3, 1, 2)


def _axis_weights(starts: Tensor, ends: Tensor, size: int, num_bins: int) -> Tensor:
    """``(R, bins, size)`` mean bilinear weights of each bin's sampling points along one axis."""
    lengths = ends - starts
    counts = torch.ceil(lengths / num_bins).clamp(min=0)
    most = int(counts.max()) if len(counts) else 0
    if most == 0:
        return starts.new_zeros(len(starts), num_bins, size)
    sample = torch.arange(most, device=starts.device)
    offsets = (sample + 0.5) / counts.clamp(min=1)[:, None]
    bins = torch.arange(num_bins, device=starts.device)
    steps = (bins[None, :, None] + offsets[:, None, :]) * (lengths / num_bins)[:, None, None]
    points = starts[:, None, None] + steps
    counted = (sample < counts[:, None])[:, None, :] & (points >= -1) & (points <= size)
    points = points.clamp(min=0, max=size - 1)
    lower = points.floor()
    upper_share = points - lower
    value = counted / counts.clamp(min=1)[:, None, None]
    lower = lower.long()
    upper = (lower + 1).clamp(max=size - 1)
    weights = starts.new_zeros(len(starts), num_bins, size)
    weights.scatter_add_(2, lower, (1 - upper_share) * value)
    return weights.scatter_add_(2, upper, upper_share * value)


def _pair_means(weights: Tensor) -> Tensor:
    return weights.unflatten(1, (-1, 2)).mean(dim=2)
