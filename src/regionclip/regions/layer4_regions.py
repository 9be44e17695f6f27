"""Regions cut from a ResNet's last map, pooled with attention: what CLIM's ResNets are trained for.

RegionCLIP and CORA cut them from layer3's map and run layer4 on each: see ``region_head.py``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from open_clip.modified_resnet import AttentionPool2d
from torch import Tensor
from torch.nn import functional as F

from regionclip.encoders.dense_resnet import DenseClipResNet

from .attention_pool import attention_pool
from .dense_regions import SeparateMaps
from .region_head import DEFAULT_MEMORY_BUDGET, covered_cells
from .roi_align import pool_with_weights, roi_weights


def pool_boxes_with_attention(
    layer4: Float[Tensor, "B F h w"],
    boxes: Sequence[Float[Tensor, "_ 4"]],
    pool: AttentionPool2d,
    *,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
) -> Float[Tensor, "R D"]:
    """ROIAlign to the attention pool's own grid, then the attention pool.

    Args:
        layer4: One map per image, a cell per 32 pixels.
        boxes: Per image, ``xyxy`` in pixels of the network's input; zero boxes are fine.
        pool: open_clip's module, for its parameters.
        memory_budget: Bytes of intermediate results; more boxes come in chunks.

    Returns:
        Vectors, not normalised, image after image; differentiable in ``layer4``.

    Source:
        F-VLM (arXiv:2209.15639), sec. 3.2.
    """
    vectors = [layer4.new_zeros(0, pool.c_proj.out_features, dtype=torch.float32)]
    for image, own in zip(layer4, boxes, strict=True):
        for _, cells in _chunks(image, own.to(image.device), pool, memory_budget):
            vectors.append(attention_pool(cells, pool).float())
    return torch.cat(vectors)


def layer4_vectors(
    encoder: DenseClipResNet,
    images: Float[Tensor, "B 3 H W"],
    boxes: Sequence[Float[Tensor, "_ 4"]],
) -> Float[Tensor, "R D"]:
    """As :func:`~.dense_regions.map_vectors`, by :func:`pool_boxes_with_attention`.

    Bins and pool are computed in float32. The pool's key bias has no gradient: it adds one number
    to all scores.
    """
    layer4 = encoder.layer4_map(images).float()
    with torch.autocast(layer4.device.type, enabled=False):
        return pool_boxes_with_attention(layer4, boxes, encoder.visual.attnpool)


class Layer4Regions(SeparateMaps[DenseClipResNet]):
    """Region vectors by ROIAlign on layer4's map and the attention pool. For inference only."""

    def _view_of(self, image: Tensor) -> "Layer4View":
        layer4 = self._encoder.layer4_map(image.to(self._dtype))[0]
        return Layer4View(layer4, self._encoder.visual.attnpool, self._memory_budget)


@dataclass(frozen=True, slots=True)
class Layer4View:
    """layer4's map of one image; see :class:`~regionclip.regions.embedder.RegionView`."""

    layer4: Float[Tensor, "F h w"]
    pool: AttentionPool2d
    memory_budget: int

    def features(
        self, boxes: Float[Tensor, "R 4"], *, masks: Bool[Tensor, "R H W"] | None = None
    ) -> Float[Tensor, "R D"]:
        """Vectors, not normalised; with masks, the pool looks at the cells that they cover."""
        boxes = boxes.to(self.layer4.device)
        vectors = [self.layer4.new_zeros(0, self.pool.c_proj.out_features, dtype=torch.float32)]
        for rows, cells in _chunks(self.layer4, boxes, self.pool, self.memory_budget):
            inside = None if masks is None else self._inside(boxes[rows], masks[rows])
            vectors.append(attention_pool(cells, self.pool, inside=inside).float())
        return torch.cat(vectors)

    def last_stage_cells(self, boxes: Float[Tensor, "R 4"]) -> Float[Tensor, "R C g g"]:
        """Each box's bins."""
        grid, boxes = _grid(self.pool), boxes.to(self.layer4.device)
        cells = [self.layer4.new_zeros(0, len(self.layer4), grid, grid, dtype=torch.float32)]
        chunks = _chunks(self.layer4, boxes, self.pool, self.memory_budget)
        return torch.cat([*cells, *(chunk.float() for _, chunk in chunks)])

    def _inside(self, boxes: Tensor, masks: Tensor) -> Tensor:
        height, width = (STRIDE * side for side in self.layer4.shape[1:])
        whole = (0, width - masks.shape[2], 0, height - masks.shape[1])
        weights = _weights(self.layer4, boxes, self.pool)
        return covered_cells(F.pad(masks.to(boxes.device), whole), weights)


STRIDE = 32
"""Pixels of the input per cell of layer4's map and side."""


def _grid(pool: AttentionPool2d) -> int:
    return round((len(pool.positional_embedding) - 1) ** 0.5)


def _weights(layer4: Tensor, boxes: Tensor, pool: AttentionPool2d):
    size = (int(layer4.shape[1]), int(layer4.shape[2]))
    return roi_weights(boxes, size, num_bins=_grid(pool), spatial_scale=1 / STRIDE)


def _chunks(
    layer4: Tensor, boxes: Tensor, pool: AttentionPool2d, memory_budget: int
) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows and bins of as many boxes as memory allows: bins, tokens, heads' weights."""
    channels_last = layer4.permute(1, 2, 0).contiguous()
    bytes_per_box = 4 * (2 * _grid(pool) ** 2 + 1 + 2 * pool.num_heads) * len(layer4)
    at_once = max(1, memory_budget // bytes_per_box)
    for start in range(0, len(boxes), at_once):
        rows = slice(start, start + at_once)
        yield rows, pool_with_weights(channels_last, _weights(layer4, boxes[rows], pool))
