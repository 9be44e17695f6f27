"""Regions of a map whose every cell is a vector in the words' space: boxes, masks, both at once.

A vector of a region is a weighted mean of its cells' vectors of length one, so it is shorter the
more they differ; what compares it uses the cosine.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from regionclip.data.transforms import Padding, normalize_and_pad, pad_with_black
from regionclip.encoders.dense import DenseEncoder
from regionclip.structures import PreparedImage

from .embedder import RegionView, SeparateViews
from .region_head import DEFAULT_MEMORY_BUDGET
from .roi_align import roi_weights

Encoder = TypeVar("Encoder", bound=DenseEncoder)


def pool_boxes(
    dense: Float[Tensor, "B D h w"],
    boxes: Sequence[Float[Tensor, "_ 4"]],
    *,
    cell: int | float,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
) -> Float[Tensor, "R D"]:
    """ROIAlign with one bin per box: half-pixel shift, one sampling point per cell and side.

    The weights of a bin's points are written down per row and column of the map, and all boxes
    of an image are one matrix product: on every core, where torchvision's kernel uses one.

    Args:
        dense: One map per image.
        boxes: Per image, ``xyxy`` in pixels of the network's input. Points of a box that lie more
            than a cell outside the map count as zero; a box without area gives a zero vector.
        cell: Pixels of the input per cell and side.
        memory_budget: Bytes of intermediate results; more boxes come in chunks.

    Returns:
        Vectors of at most length one, image after image; differentiable in ``dense``.

    Raises:
        ValueError: There are not as many sets of boxes as maps.

    Source:
        CLIPSelf (arXiv:2310.01403), sec. 3.2; torchvision ``roi_align(output_size=1,
        sampling_ratio=-1, aligned=True)``.
    """
    size = (int(dense.shape[2]), int(dense.shape[3]))
    rows_at_once = max(1, memory_budget // (4 * size[0] * size[1]))
    pooled = [dense.new_zeros(0, dense.shape[1], dtype=torch.float32)]
    for cells, own in zip(_cells(dense, len(boxes)), boxes, strict=True):
        for chunk in own.to(cells.device).split(rows_at_once):
            weights = roi_weights(chunk, size, num_bins=1, spatial_scale=1 / cell)
            shares = weights.rows.transpose(1, 2) * weights.columns
            pooled.append(_product(shares.flatten(1), cells))
    return torch.cat(pooled)


def map_vectors(
    encoder: DenseEncoder,
    images: Float[Tensor, "B 3 H W"],
    boxes: Sequence[Float[Tensor, "_ 4"]],
) -> Float[Tensor, "R D"]:
    """Vectors of boxes on the dense maps of normalised images; see :func:`pool_boxes`.

    Args:
        encoder: Makes the maps; gradients flow back to it.
        images: As :meth:`~regionclip.encoders.dense.DenseEncoder.dense_features` takes them.
        boxes: Per image, ``xyxy`` in its pixels.
    """
    return pool_boxes(encoder.dense_features(images), boxes, cell=encoder.cell)


def pool_masks(dense: Float[Tensor, "B D h w"], masks: Sequence[Tensor]) -> Float[Tensor, "R D"]:
    """Means of the vectors under masks.

    Args:
        dense: One map per image.
        masks: Per image, ``(M, h, w)`` over the map's cells, boolean or shares in [0, 1]; an empty
            mask gives a zero vector.

    Returns:
        Vectors of at most length one, image after image; differentiable in ``dense``.

    Raises:
        ValueError: There are not as many sets of masks as maps, or they are of another size.
    """
    pooled = [dense.new_zeros(0, dense.shape[1], dtype=torch.float32)]
    for cells, own in zip(_cells(dense, len(masks)), masks, strict=True):
        if own.shape[1:] != dense.shape[2:]:
            raise ValueError(
                f"masks must be over the map's {tuple(dense.shape[2:])} cells, got "
                f"{tuple(own.shape[1:])}"
            )
        shares = own.to(cells).flatten(1)
        shares = shares / (shares.sum(dim=1, keepdim=True) + 1e-12)
        pooled.append(_product(shares, cells))
    return torch.cat(pooled)


def cell_shares(
    masks: Bool[Tensor, "R H W"], map_hw: tuple[int, int], *, cell: int
) -> Float[Tensor, "R h w"]:
    """How much of each cell of a map a mask covers, in [0, 1].

    Args:
        masks: Over the network's input, or over its upper left part.
        map_hw: Rows and columns of the map.
        cell: Pixels per cell and side.
    """
    height, width = (cells * cell for cells in map_hw)
    right, below = width - masks.shape[2], height - masks.shape[1]
    covered = F.pad(masks[:, None].float(), (0, right, 0, below))
    return F.avg_pool2d(covered, cell)[:, 0]


def network_input(
    encoder: DenseEncoder, pixels: Float[Tensor, "3 H W"], *, padding: Padding
) -> Float[Tensor, "1 3 I J"]:
    """One image as a dense tower takes it: filled up with black, then normalised.

    Args:
        encoder: Tells the statistics, the cells, and the device.
        pixels: RGB in [0, 1].
        padding: See :data:`~regionclip.data.transforms.Padding`.
    """
    pixels = pixels.to(encoder.device)
    padded = pad_with_black(pixels, padding=padding, size_divisor=encoder.cell)
    return normalize_and_pad([padded], mean=encoder.mean, std=encoder.std)


def _cells(dense: Tensor, num_images: int) -> Float[Tensor, "B N D"]:
    """Vectors of each map, row by row, in float32."""
    if len(dense) != num_images:
        raise ValueError(f"got regions of {num_images} images for {len(dense)} maps")
    return dense.flatten(2).transpose(1, 2).float()


def _product(shares: Tensor, cells: Tensor) -> Tensor:
    """Weighted sums; in float32 also where products are told to be faster."""
    with torch.autocast(cells.device.type, enabled=False):
        return shares @ cells


class SeparateMaps(ABC, Generic[Encoder]):
    """Region vectors from a map of each image by itself. For inference only."""

    def __init__(
        self,
        encoder: Encoder,
        *,
        dtype: torch.dtype = torch.float32,
        memory_budget: int = DEFAULT_MEMORY_BUDGET,
        padding: Padding = "square",
    ) -> None:
        """Take maps of ``encoder``.

        Args:
            encoder: Makes the map.
            dtype: What its products run in.
            memory_budget: Bytes of intermediate results when regions are cut; more regions than
                fit come in chunks.
            padding: How images are filled up: see :data:`~regionclip.data.transforms.Padding`.

        Raises:
            ValueError: ``memory_budget`` is not positive.
        """
        if memory_budget <= 0:
            raise ValueError(f"memory_budget must be positive, got {memory_budget} bytes")
        self._encoder = encoder
        self._dtype = dtype
        self._memory_budget = memory_budget
        self._padding: Padding = padding

    def view(self, images: Sequence[PreparedImage]) -> SeparateViews:
        """Encode images one by one: none is padded for the sake of another."""
        inputs = (
            network_input(self._encoder, image.pixels, padding=self._padding) for image in images
        )
        return SeparateViews([self._view_of(image) for image in inputs])

    @abstractmethod
    def _view_of(self, image: Tensor) -> RegionView:
        """Encode one image, ``(1, 3, H, W)``, as the tower takes it."""


class DenseRegions(SeparateMaps[DenseEncoder]):
    """Region vectors from the dense map of any tower that has one. For inference only.

    Products run in the precision asked for by autocast; the map is float32.
    """

    def _view_of(self, image: Tensor) -> "DenseView":
        is_reduced = self._dtype != torch.float32
        with torch.autocast(image.device.type, dtype=self._dtype, enabled=is_reduced):
            dense = self._encoder.dense_features(image).float()
        return DenseView(dense, self._encoder.cell, self._memory_budget)


@dataclass(frozen=True, slots=True)
class DenseView:
    """The dense map of one image; see :class:`~regionclip.regions.embedder.RegionView`."""

    dense: Float[Tensor, "1 D h w"]
    cell: int
    memory_budget: int

    def features(
        self, boxes: Float[Tensor, "R 4"], *, masks: Bool[Tensor, "R H W"] | None = None
    ) -> Float[Tensor, "R D"]:
        """Vectors, not normalised; of masks, whatever their boxes, each cell by its share."""
        if masks is None:
            return pool_boxes(self.dense, [boxes], cell=self.cell, memory_budget=self.memory_budget)
        size = (int(self.dense.shape[2]), int(self.dense.shape[3]))
        at_once = max(1, self.memory_budget // (8 * max(1, masks[:1].numel())))
        pooled = [self.dense.new_zeros(0, self.dense.shape[1])]
        for chunk in masks.split(at_once):
            shares = cell_shares(chunk.to(self.dense.device), size, cell=self.cell)
            pooled.append(pool_masks(self.dense, [shares]))
        return torch.cat(pooled)

    def last_stage_cells(self, boxes: Float[Tensor, "R 4"]) -> Float[Tensor, "R C g g"]:
        """Dense maps have none.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("a mask head needs a ResNet's last stage, not a dense map")
