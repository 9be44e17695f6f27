"""Regions by mask attention: a class token per region, which sees the region's patches only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from regionclip.data.transforms import Padding
from regionclip.encoders.dense import DenseEncoder
from regionclip.structures import PreparedImage

from .dense_regions import cell_shares, network_input
from .embedder import SeparateViews


@runtime_checkable
class MaskAttentionEncoder(DenseEncoder, Protocol):
    """A dense tower with class tokens that can be told where to look."""

    def encode_masks(
        self, images: Float[Tensor, "B 3 H W"], masks: Sequence[Tensor]
    ) -> list[Tensor]:
        """Vectors per image and mask; see :meth:`~regionclip.encoders.vit.VitMaps.encode_masks`."""
        ...


def box_cells(
    boxes: Float[Tensor, "R 4"], map_hw: tuple[int, int], *, cell: int
) -> Bool[Tensor, "R h w"]:
    """Cells of a map from the one that holds a box's upper left corner, to before its lower right.

    None, for a box whose corners lie in one row or column of cells. What lies outside the map is
    left out.

    Args:
        boxes: ``xyxy``, pixels of the network's input.
        map_hw: Rows and columns of the map.
        cell: Pixels per cell and side.
    """
    height, width = map_hw
    edges = (boxes / cell).trunc()[:, :, None]
    rows, columns = torch.arange(height).to(edges), torch.arange(width).to(edges)
    inside_rows = (rows >= edges[:, 1]) & (rows < edges[:, 3])
    inside_columns = (columns >= edges[:, 0]) & (columns < edges[:, 2])
    return inside_rows[:, :, None] & inside_columns[:, None]


class MaskAttentionRegions:
    """Region vectors by mask attention. For inference only, and slow: the image runs every time.

    Source:
        The mask class tokens of MaskCLIP (arXiv:2208.08984).
    """

    def __init__(
        self,
        encoder: MaskAttentionEncoder,
        *,
        dtype: torch.dtype = torch.float32,
        padding: Padding = "square",
        at_once: int = 100,
    ) -> None:
        """Ask ``encoder``.

        Args:
            encoder: A vision transformer.
            dtype: What its products run in, by autocast.
            padding: How images are filled up: see :data:`~regionclip.data.transforms.Padding`.
            at_once: Regions per pass.

        Raises:
            ValueError: ``at_once`` is not positive.
        """
        if at_once < 1:
            raise ValueError(f"at_once must be at least 1, got {at_once}")
        self._encoder = encoder
        self._dtype = dtype
        self._padding: Padding = padding
        self._at_once = at_once

    def view(self, images: Sequence[PreparedImage]) -> SeparateViews:
        """Keep the images; the work is done with the regions."""
        inputs = (
            network_input(self._encoder, image.pixels, padding=self._padding) for image in images
        )
        return SeparateViews([MaskAttentionView(self, each) for each in inputs])

    def encode(
        self, image: Float[Tensor, "1 3 H W"], boxes: Tensor, masks: Tensor | None
    ) -> Float[Tensor, "R D"]:
        """Vectors of regions of one image; see :meth:`MaskAttentionView.features`."""
        encoder, is_reduced = self._encoder, self._dtype != torch.float32
        size = (image.shape[2] // encoder.cell, image.shape[3] // encoder.cell)
        if masks is None:
            seen = box_cells(boxes, size, cell=encoder.cell)
        else:
            seen = cell_shares(masks, size, cell=encoder.cell) > 0
        vectors = [image.new_zeros(0, encoder.embed_dim)]
        with torch.autocast(image.device.type, dtype=self._dtype, enabled=is_reduced):
            for chunk in seen.split(self._at_once) if len(seen) else ():
                vectors.append(encoder.encode_masks(image, [chunk])[0].float())
        return torch.cat(vectors)


@dataclass(frozen=True, slots=True)
class MaskAttentionView:
    """One image to ask about; see :class:`~regionclip.regions.embedder.RegionView`."""

    regions: MaskAttentionRegions
    image: Float[Tensor, "1 3 H W"]

    def features(
        self, boxes: Float[Tensor, "R 4"], *, masks: Bool[Tensor, "R H W"] | None = None
    ) -> Float[Tensor, "R D"]:
        """Vectors, not normalised; with masks, of all patches that one touches."""
        return self.regions.encode(self.image, boxes, masks)

    def last_stage_cells(self, boxes: Float[Tensor, "R 4"]) -> Float[Tensor, "R C g g"]:
        """Class tokens have none.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("a mask head needs a ResNet's last stage, not class tokens")
