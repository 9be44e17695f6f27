"""A CORA model as the parts of a detector: where the named classes may be, and regions to vectors.

Both look at an image through the same maps, so it is encoded once.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.ops import box_convert

from regionclip.concepts.class_names import builtin_names
from regionclip.proposals.proposer import NovelClasses
from regionclip.regions.map_regions import MapView
from regionclip.regions.region_head import (
    DEFAULT_MEMORY_BUDGET,
    LiftedMaps,
    RegionHead,
)
from regionclip.regions.valid_cells import ShareView, map_scales
from regionclip.structures import PreparedImage, Proposals
from regionclip.vocabulary import Vocabulary

from .config import CoraConfig
from .model import Cora, ImageMaps
from .pre_matching import novel_factors


class CoraRegions:
    """Region vectors on layer3, pooled with the region prompt. For inference only.

    Boxes are scaled to the map by their share of the image's sides, as
    :class:`~regionclip.regions.valid_cells.ShareMapRegions` does.

    Attributes:
        model: Frozen.
        head: layer4 and the attention pool.
    """

    def __init__(
        self,
        model: Cora,
        *,
        dtype: torch.dtype = torch.float32,
        memory_budget: int = DEFAULT_MEMORY_BUDGET,
    ) -> None:
        """Let the image tower compute in ``dtype``; the localiser computes in float32."""
        self.model = model
        self._dtype = dtype
        self.head = RegionHead(model.encoder.visual, memory_budget=memory_budget)

    def view(self, images: Sequence[PreparedImage]) -> "CoraBatchView":
        """Encode images."""
        maps = self.model.maps([image.pixels for image in images], dtype=self._dtype)
        scales = map_scales(images, maps.layer3_padding)
        return CoraBatchView(self.head, maps, self.head.lift(maps.layer3), scales)


@dataclass(frozen=True, slots=True)
class CoraBatchView:
    """Maps of some images.

    Attributes:
        head: layer4 and the attention pool.
        maps: What the image tower gave.
        lifted: layer3, ready for any number of regions.
        scales_xyxy: See :func:`~regionclip.regions.valid_cells.map_scales`.
    """

    head: RegionHead
    maps: ImageMaps
    lifted: LiftedMaps
    scales_xyxy: Float[Tensor, "B 4"]

    def of(self, index: int) -> ShareView:
        """One of the images."""
        return ShareView(MapView(self.head, self.lifted, index), self.scales_xyxy[index])


class CoraLocalizer:
    """A :class:`~regionclip.proposals.proposer.Localizer`: where a vocabulary's classes may be."""

    def __init__(self, regions: CoraRegions) -> None:
        """Look through the maps of ``regions``."""
        self._regions = regions
        self._base = base_classes(regions.model.config)

    def localize(
        self, images: Sequence[PreparedImage], vocabulary: Vocabulary, novel: NovelClasses
    ) -> tuple[list[Proposals], CoraBatchView]:
        """Boxes for each image, as many as the model has anchors, which may leave the image.

        Raises:
            ValueError: A novel name is not in the vocabulary.
        """
        novel.check_names(vocabulary.names)
        model = self._regions.model
        view = self._regions.view(images)
        embeddings = vocabulary.embeddings.to(model.anchors)
        factors = novel_factors(
            vocabulary.names,
            factor=model.config.novel_factor if novel.factor is None else novel.factor,
            base=self._base,
            novel=novel.names,
        )
        found = model.find(view.maps, embeddings, class_factors=factors)
        rows = zip(images, found.boxes[-1], found.objectness[-1], strict=True)
        return [_in_decreasing_objectness(*row) for row in rows], view


def base_classes(config: CoraConfig) -> Collection[str]:
    """Names of the classes that the localiser was trained on boxes of."""
    return set(
        builtin_names(config.base_classes) if config.base_classes else config.own_base_classes
    )


def _in_decreasing_objectness(
    image: PreparedImage, boxes_cxcywh: Tensor, objectness: Tensor
) -> Proposals:
    height, width = image.size_hw
    boxes = box_convert(boxes_cxcywh, "cxcywh", "xyxy")
    boxes = boxes * boxes.new_tensor([width, height, width, height])
    logits, order = objectness.sort(descending=True, stable=True)
    return Proposals(boxes[order], logits)
