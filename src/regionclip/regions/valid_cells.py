"""Boxes on a map by their share of the image's sides, as CORA has them.

A map has a cell per 16 pixels; where an image's sides are no multiples of 16, a box lies a little
elsewhere than 16 pixels to the cell would put it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from regionclip.structures import PreparedImage

from .map_regions import MapBatchView, MapRegions, MapView
from .region_head import STRIDE


class ShareMapRegions(MapRegions):
    """As :class:`~.map_regions.MapRegions`, with boxes by their share of the image's sides."""

    def view(self, images: Sequence[PreparedImage]) -> "ShareBatchView":
        """Encode images, one cell per 16 pixels."""
        batch = self.batch(images)
        view = self.encode(batch)
        padding = map_padding([image.pixels for image in images], batch, view.maps.map_hw)
        return ShareBatchView(view, map_scales(images, padding))


@dataclass(frozen=True, slots=True)
class ShareBatchView:
    """Maps of some images.

    Attributes:
        view: What the image tower gave.
        scales_xyxy: See :func:`map_scales`.
    """

    view: MapBatchView
    scales_xyxy: Float[Tensor, "B 4"]

    def of(self, index: int) -> "ShareView":
        """One of the images."""
        return ShareView(self.view.of(index), self.scales_xyxy[index])


@dataclass(frozen=True, slots=True)
class ShareView:
    """The map of one image; see :class:`~regionclip.regions.embedder.RegionView`."""

    view: MapView
    scale_xyxy: Float[Tensor, " 4"]

    def features(
        self, boxes: Float[Tensor, "R 4"], *, masks: Bool[Tensor, "R H W"] | None = None
    ) -> Float[Tensor, "R D"]:
        """Vectors, not normalised."""
        return self.view.features(boxes.to(self.scale_xyxy) * self.scale_xyxy, masks=masks)

    def last_stage_cells(self, boxes: Float[Tensor, "R 4"]) -> Float[Tensor, "R C g g"]:
        """layer4's output on each box."""
        return self.view.last_stage_cells(boxes.to(self.scale_xyxy) * self.scale_xyxy)


def map_scales(
    images: Sequence[PreparedImage], padding: Bool[Tensor, "B h w"]
) -> Float[Tensor, "B 4"]:
    """Per image, pixels of its map's own frame (16 per cell) per pixel of the image."""
    sizes = torch.tensor([image.size_hw[::-1] for image in images], device=padding.device)
    return (STRIDE * valid_sizes_wh(padding) / sizes).repeat(1, 2)


def map_padding(
    images: Sequence[Tensor],
    batch: Float[Tensor, "B 3 H W"],
    map_size_hw: tuple[int, int],
) -> Bool[Tensor, "B h w"]:
    """Cells of a batch's map that are no part of their image: each is as its first pixel.

    Args:
        images: Before they were padded.
        batch: After, at the right and at the bottom.
        map_size_hw: Rows and columns of the batch's map.
    """
    is_padding = torch.ones(len(batch), 1, *batch.shape[2:], device=batch.device)
    for row, image in zip(is_padding, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = 0
    return F.interpolate(is_padding, map_size_hw, mode="nearest")[:, 0] > 0


def valid_sizes_wh(padding: Bool[Tensor, "B h w"]) -> Float[Tensor, "B 2"]:
    """Columns and rows of each map that are part of its image; boxes are scaled by these.

    Source:
        tgxs002/CORA@c334a6d (``_sample_feature``): not the image's size over the stride.
    """
    inside = (~padding).float()
    return torch.stack([inside[:, 0].sum(dim=1), inside[:, :, 0].sum(dim=1)], dim=1)
