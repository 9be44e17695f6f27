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

    Source: wusize/CLIPSelf@1c7fe9c (``extract_type v1``).
    """
    rows = _between(boxes[:, 1], boxes[:, 3], map_hw[0], cell=cell)
    columns = _between(boxes[:, 0], boxes[:, 2], map_hw[1], cell=cell)
    return rows[:, :, None] & columns[:, None]


def occupied_cells(
    boxes: Float[Tensor, "R 4"], map_hw: tuple[int, int], *, cell: int
) -> Bool[Tensor, "R h w"]:
    """:func:`box_cells`, and where these are none, the row or column of a box's centre.

    A class token that sees no patch has the same vector whatever the box.

    Args:
        boxes: ``xyxy``, pixels of the network's input.
        map_hw: Rows and columns of the map.
        cell: Pixels per cell and side.
    """
    rows = _between(boxes[:, 1], boxes[:, 3], map_hw[0], cell=cell)
    columns = _between(boxes[:, 0], boxes[:, 2], map_hw[1], cell=cell)
    rows = _or_center(rows, boxes[:, 1], boxes[:, 3], cell=cell)
    columns = _or_center(columns, boxes[:, 0], boxes[:, 2], cell=cell)
    return rows[:, :, None] & columns[:, None]


def _between(
    first: Float[Tensor, " R"], last: Float[Tensor, " R"], count: int, *, cell: int
) -> Bool[Tensor, "R n"]:
    """Of ``count`` cells in a line, that of ``first`` and those before that of ``last``."""
    places = torch.arange(count).to(first)
    return (places >= (first / cell).trunc()[:, None]) & (places < (last / cell).trunc()[:, None])


def _or_center(
    chosen: Bool[Tensor, "R n"],
    first: Float[Tensor, " R"],
    last: Float[Tensor, " R"],
    *,
    cell: int,
) -> Bool[Tensor, "R n"]:
    """The cell of the centre, in the map, where none is chosen."""
    count = chosen.shape[1]
    center = ((first + last) / 2 / cell).long().clamp(0, count - 1)
    own = torch.arange(count, device=chosen.device) == center[:, None]
    return torch.where(chosen.any(dim=1, keepdim=True), chosen, own)


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
            seen = occupied_cells(boxes, size, cell=encoder.cell)
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
