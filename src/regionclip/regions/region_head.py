"""One vector per region of a CLIP ResNet's map: ROIAlign, layer4, attention pool.

Two exact savings over running the head on every ROI crop. layer4's first block begins with 1x1
convolutions, in its main path and in its shortcut; they and their batch norms are linear and
commute with ROIAlign, so they run once on the map. And the shortcut averages 2x2 cells, which
folds into ROIAlign's weights.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from open_clip.modified_resnet import AttentionPool2d, Bottleneck, ModifiedResNet
from torch import Tensor, nn
from torch.nn import functional as F

from regionclip.encoders.frozen_norms import (
    bottleneck,
    conv_norm,
    folded_weight,
    norm_bias,
    shortcut_parts,
)

from .attention_pool import attention_pool
from .roi_align import RoiWeights, pool_with_weights, roi_weights

STRIDE = 16
DEFAULT_MEMORY_BUDGET = 1 << 30
"""Bytes that one chunk of regions may take; larger chunks are no faster on a CPU."""


@dataclass(frozen=True, slots=True)
class LiftedMaps:
    """A batch of maps after the linear part of layer4's first block, channels innermost."""

    main: Float[Tensor, "B h w P"]
    shortcut: Float[Tensor, "B h w C"]

    @property
    def map_hw(self) -> tuple[int, int]:
        """Rows and columns of each map."""
        return int(self.main.shape[1]), int(self.main.shape[2])


@dataclass(frozen=True, slots=True)
class ImageRegions:
    """Regions of one image of a batch of maps, ready to be cut out."""

    maps: LiftedMaps
    image: int
    weights: RoiWeights


class RegionHead(nn.Module):
    """layer4 and the attention pool of an image tower, on regions of its layer3 map.

    Attributes:
        layer4: The tower's own module (shared, not copied), with batch norms in ``eval`` mode.
        pool: The tower's attention pool.
        memory_budget: Bytes of intermediate results per chunk; more regions make more chunks.
    """

    def __init__(
        self, visual: ModifiedResNet, *, memory_budget: int = DEFAULT_MEMORY_BUDGET
    ) -> None:
        super().__init__()
        if memory_budget <= 0:
            raise ValueError(f"memory_budget must be positive, got {memory_budget} bytes")
        self.layer4: nn.Sequential = visual.layer4
        self.pool: AttentionPool2d = visual.attnpool
        self.memory_budget = memory_budget

    @property
    def num_bins(self) -> int:
        """Bins per side that ROIAlign cuts: twice the attention pool's grid."""
        return 2 * round((len(self.pool.positional_embedding) - 1) ** 0.5)

    def lift(self, feature_map: Float[Tensor, "B F h w"]) -> "LiftedMaps":
        """Run the first block's 1x1 convolutions once on the map, for any number of regions.

        Args:
            feature_map: The tower's layer3 map, one cell per 16 pixels, in the precision to
                compute in.
        """
        block = _first_block(self.layer4)
        parts = []
        for conv, norm in ((block.conv1, block.bn1), shortcut_parts(block)[1:]):
            part = F.conv2d(feature_map, folded_weight(conv, norm).to(feature_map.dtype))
            parts.append(part.permute(0, 2, 3, 1).contiguous())
        return LiftedMaps(main=parts[0], shortcut=parts[1])

    def forward(
        self,
        maps: "LiftedMaps",
        image: int,
        boxes: Float[Tensor, "R 4"],
        *,
        masks: Bool[Tensor, "R H W"] | None = None,
    ) -> Float[Tensor, "R D"]:
        """Vectors of the regions of one image, not normalised, as CLIP's image vectors.

        Args:
            maps: From :meth:`lift`.
            image: Which of the batch.
            boxes: ``xyxy`` in pixels of the network's input; zero boxes are fine.
            masks: One per box, over the network's input: the attention pool then looks only at
                cells that the mask covers.
        """
        vectors = [boxes.new_zeros(0, self.pool.c_proj.out_features)]
        for chunk, weights, cells in self._chunks(maps, image, boxes):
            inside = None if masks is None else covered_cells(masks[chunk], weights.halved())
            vectors.append(attention_pool(cells, self.pool, inside=inside).float())
        return torch.cat(vectors)

    def layer4_cells(
        self, maps: "LiftedMaps", image: int, boxes: Float[Tensor, "R 4"]
    ) -> Float[Tensor, "R C grid grid"]:
        """layer4's output on the regions of one image, before pooling, for a mask head."""
        grid = self.num_bins // 2
        cells = [boxes.new_zeros(0, self.pool.k_proj.in_features, grid, grid)]
        cells += [chunk.float() for _, _, chunk in self._chunks(maps, image, boxes)]
        return torch.cat(cells)

    def chunk_size(self, map_hw: tuple[int, int]) -> int:
        """Regions per chunk within the memory budget, at least one.

        Counts what is alive at the peak, in float32: three activations of the first block, four
        after it; on a GPU also ROIAlign's products over whole map rows.
        """
        block = _first_block(self.layer4)
        planes, out_channels = block.conv1.out_channels, block.conv3.out_channels
        bins, grid = self.num_bins, self.num_bins // 2
        row_products = max(bins * map_hw[1] * planes, grid * map_hw[1] * out_channels)
        activations = 3 * bins * bins * planes + 4 * grid * grid * out_channels
        on_gpu = block.conv1.weight.is_cuda
        return max(1, self.memory_budget // (4 * (on_gpu * row_products + activations)))

    @property
    def kept_bytes(self) -> int:
        """What a backward pass needs of one region of float32, the attention pool included."""
        block = _first_block(self.layer4)
        planes, out_channels = block.conv1.out_channels, block.conv3.out_channels
        bins, cells = self.num_bins**2, (self.num_bins // 2) ** 2
        first = 2 * bins * planes + cells * (planes + out_channels)
        later = (len(self.layer4) - 1) * cells * (2 * planes + out_channels)
        # the tokens, each head's folded query and its weighted mean of tokens
        pooled = (cells + 1 + 2 * self.pool.num_heads) * out_channels
        return 4 * (first + later + pooled)

    def cells(self, parts: Sequence["ImageRegions"]) -> Float[Tensor, "R C grid grid"]:
        """layer4's output on regions of at least one image, in one piece and with gradients.

        Args:
            parts: Zero regions are fine; rows come in the order of the parts.
        """
        pooled = [
            (
                pool_with_weights(part.maps.main[part.image], part.weights),
                pool_with_weights(part.maps.shortcut[part.image], part.weights.halved()),
            )
            for part in parts
        ]
        if len(pooled) == 1:  # a copy of one would cost as much as of many
            return self._layer4_after_linear(*pooled[0])
        main, shortcut = (torch.cat(maps) for maps in zip(*pooled, strict=True))
        return self._layer4_after_linear(main, shortcut)

    def weights(self, maps: "LiftedMaps", boxes: Float[Tensor, "R 4"]) -> RoiWeights:
        """Interpolation weights of boxes in pixels of the network's input."""
        return roi_weights(boxes, maps.map_hw, num_bins=self.num_bins, spatial_scale=1 / STRIDE)

    def _chunks(
        self, maps: "LiftedMaps", image: int, boxes: Tensor
    ) -> Iterator[tuple[slice, RoiWeights, Tensor]]:
        """Yield rows, interpolation weights and layer4 cells of as many boxes as memory allows."""
        size = self.chunk_size(maps.map_hw)
        for start in range(0, len(boxes), size):
            chunk = slice(start, start + size)
            weights = self.weights(maps, boxes[chunk])
            yield chunk, weights, self.cells([ImageRegions(maps, image, weights)])

    def _layer4_after_linear(self, main: Tensor, shortcut: Tensor) -> Tensor:
        """The rest of layer4. Biases come after pooling: points outside the map count as zero."""
        block = _first_block(self.layer4)
        main = torch.relu_(main + norm_bias(block.bn1).to(main.dtype)[:, None, None])
        main = torch.relu_(conv_norm(main, block.conv2, block.bn2))
        main = block.avgpool(main)
        both = norm_bias(block.bn3) + norm_bias(shortcut_parts(block)[2])
        weight = folded_weight(block.conv3, block.bn3).to(main.dtype)
        main = F.conv2d(main, weight, both.to(main.dtype))
        cells = torch.relu_(main.add_(shortcut))
        for rest in list(self.layer4)[1:]:
            cells = bottleneck(cells, rest)
        return cells


def covered_cells(masks: Bool[Tensor, "R H W"], weights: RoiWeights) -> Bool[Tensor, "R bins bins"]:
    """Bins that a mask covers at least half as well as its best-covered one.

    All bins, where the mask is too small to be seen at the map's resolution.

    Args:
        masks: One per box, over the image that the map is of.
        weights: Of the boxes' bins.
    """
    height, width = weights.rows.shape[2], weights.columns.shape[2]
    shares = F.adaptive_avg_pool2d(masks[:, None].float(), (height, width))[:, 0]
    coverage = weights.rows @ shares @ weights.columns.transpose(1, 2)
    return coverage >= 0.5 * coverage.flatten(1).amax(dim=1)[:, None, None]


def _first_block(layer4: nn.Sequential) -> Bottleneck:
    block = layer4[0]
    if not isinstance(block, Bottleneck):
        raise TypeError(f"layer4 must hold Bottleneck blocks, got {type(block).__name__}")
    return block
