"""Regions as means of a map's cells, normed and projected after the mean."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from regionclip.encoders.mean_clip import MeanClip
from regionclip.structures import PreparedImage

from .dense_regions import cell_shares, pool_masks
from .embedder import SeparateViews
from .roi_align import roi_weights

BINS = 14
"""Bins per side that ROIAlign cuts before their mean; microsoft/RegionCLIP branch zero-shot."""


def mean_of_boxes(
    feature_map: Float[Tensor, "C h w"],
    boxes: Float[Tensor, "R 4"],
    *,
    cell: int,
) -> Float[Tensor, "R C"]:
    """The mean of ROIAlign's 14 x 14 bins of each box, without cutting out any.

    ROIAlign's weights are products of one per row and one per column, and so is their mean.

    Args:
        feature_map: Of one image.
        boxes: ``xyxy``, pixels of the network's input; zero boxes are fine.
        cell: Pixels of the input per cell and side.
    """
    size = (int(feature_map.shape[1]), int(feature_map.shape[2]))
    weights = roi_weights(boxes, size, num_bins=BINS, spatial_scale=1 / cell)
    rows, columns = weights.rows.mean(dim=1), weights.columns.mean(dim=1)
    with torch.autocast(feature_map.device.type, enabled=False):
        by_row = torch.einsum("rh,chw->rcw", rows, feature_map.float())
        return (by_row @ columns[:, :, None])[..., 0]


class MeanRegions:
    """Region vectors of a :class:`~regionclip.encoders.mean_clip.MeanClip`. For inference only."""

    def __init__(self, encoder: MeanClip, *, dtype: torch.dtype = torch.float32) -> None:
        """Take maps of ``encoder``.

        Args:
            encoder: Makes the map, and vectors of means.
            dtype: What its products run in, by autocast; means are float32.
        """
        self._encoder = encoder
        self._dtype = dtype

    def view(self, images: Sequence[PreparedImage]) -> SeparateViews:
        """Encode images one by one: none is padded for the sake of another."""
        return SeparateViews([self._view_one(image) for image in images])

    def _view_one(self, image: PreparedImage) -> "MeanView":
        encoder, is_reduced = self._encoder, self._dtype != torch.float32
        device = encoder.device
        mean, std = (torch.tensor(each, device=device) for each in (encoder.mean, encoder.std))
        pixels = (image.pixels.to(device) - mean[:, None, None]) / std[:, None, None]
        with torch.autocast(device.type, dtype=self._dtype, enabled=is_reduced):
            return MeanView(encoder, encoder.feature_map(pixels[None]).float())


@dataclass(frozen=True, slots=True)
class MeanView:
    """The map of one image; see :class:`~regionclip.regions.embedder.RegionView`."""

    encoder: MeanClip
    feature_map: Float[Tensor, "1 C h w"]

    def features(
        self, boxes: Float[Tensor, "R 4"], *, masks: Bool[Tensor, "R H W"] | None = None
    ) -> Float[Tensor, "R D"]:
        """Vectors, not normalised; of masks, whatever their boxes, each cell by its share."""
        cell, own = self.encoder.cell, self.feature_map
        if masks is None:
            return self.encoder.encode_means(mean_of_boxes(own[0], boxes.to(own.device), cell=cell))
        size = (int(own.shape[2]), int(own.shape[3]))
        # a ViT's map ends with its last whole patch
        inside = masks[:, : size[0] * cell, : size[1] * cell].to(own.device)
        return self.encoder.encode_means(pool_masks(own, [cell_shares(inside, size, cell=cell)]))

    def last_stage_cells(self, boxes: Float[Tensor, "R 4"]) -> Float[Tensor, "R C g g"]:
        """These regions have none.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("a mask head needs a ResNet's last stage, not a mean")
