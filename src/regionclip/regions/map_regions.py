"""Regions cut from a ClipResNet's map: the image is encoded once, however many regions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from regionclip.encoders.clip_resnet import ClipResNet
from regionclip.encoders.folding import folded_map_tower
from regionclip.structures import PreparedImage

from .region_head import DEFAULT_MEMORY_BUDGET, LiftedMaps, RegionHead


class MapRegions:
    """Region vectors by ROIAlign on a ClipResNet's layer3 map. For inference only.

    Attributes:
        head: layer4 and the attention pool.
    """

    def __init__(
        self,
        encoder: ClipResNet,
        *,
        dtype: torch.dtype = torch.float32,
        memory_budget: int = DEFAULT_MEMORY_BUDGET,
    ) -> None:
        """Fold the batch norms of stem to layer3 into a copy of them, in ``dtype``."""
        visual = encoder.visual
        self._encoder = encoder
        self._tower = folded_map_tower(visual).to(dtype).to(memory_format=torch.channels_last)
        self._dtype = dtype
        self.head = RegionHead(visual, memory_budget=memory_budget)

    def view(self, images: Sequence[PreparedImage]) -> "MapBatchView":
        """Encode images, one cell per 16 pixels."""
        return self.encode(self.batch(images))

    def batch(self, images: Sequence[PreparedImage]) -> Float[Tensor, "B 3 H W"]:
        """Images as the tower takes them, padded at the right and at the bottom."""
        batch = self._encoder.prepare([image.pixels for image in images])
        return batch.to(dtype=self._dtype, memory_format=torch.channels_last)

    def encode(self, batch: Float[Tensor, "B 3 H W"]) -> "MapBatchView":
        """The maps of a batch."""
        return MapBatchView(self.head, self.head.lift(self._tower(batch)))


@dataclass(frozen=True, slots=True)
class MapBatchView:
    """Maps of some images."""

    head: RegionHead
    maps: LiftedMaps

    def of(self, index: int) -> "MapView":
        """One of the images."""
        return MapView(self.head, self.maps, index)


@dataclass(frozen=True, slots=True)
class MapView:
    """The map of one image; see :class:`~regionclip.regions.embedder.RegionView`."""

    head: RegionHead
    maps: LiftedMaps
    index: int

    def features(
        self, boxes: Float[Tensor, "R 4"], *, masks: Bool[Tensor, "R H W"] | None = None
    ) -> Float[Tensor, "R D"]:
        """Vectors, not normalised."""
        device = self.maps.main.device
        masks = None if masks is None else masks.to(device)
        return self.head(self.maps, self.index, boxes.to(device), masks=masks)

    def last_stage_cells(self, boxes: Float[Tensor, "R 4"]) -> Float[Tensor, "R C g g"]:
        """layer4's output on each box."""
        return self.head.layer4_cells(self.maps, self.index, boxes.to(self.maps.main.device))
