"""What the stages ask of anything that turns regions into vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from regionclip.structures import PreparedImage

RegionSource = Literal["map", "dense", "layer4", "mask-attention", "crops"]
"""``map``: cut from one map of the image, as the model was made for. ``dense``: from the map of
vectors. ``layer4``: from a ResNet's last map, pooled with attention. ``mask-attention``: a class
token per region. ``crops``: each region through the whole tower."""
BoxScale = Literal["stride", "share"]
"""``stride``: a cell of the map is 16 pixels of the image. ``share``: a box has the share of the
map's sides that it has of the image's, as CORA's have."""


@runtime_checkable
class RegionView(Protocol):
    """One image, looked at, ready to be asked for any of its regions."""

    def features(
        self, boxes: Float[Tensor, "R 4"], *, masks: Bool[Tensor, "R H W"] | None = None
    ) -> Float[Tensor, "R D"]:
        """Vectors, not normalised; zero regions are fine.

        Args:
            boxes: ``xyxy``, pixels of the prepared image.
            masks: One per box, over the prepared image; ``None`` takes the whole boxes.
        """
        ...

    def last_stage_cells(self, boxes: Float[Tensor, "R 4"]) -> Float[Tensor, "R C g g"]:
        """The encoder's last cells before pooling, for a mask head.

        Raises:
            NotImplementedError: These regions have no cells.
        """
        ...


@runtime_checkable
class BatchView(Protocol):
    """Some images, looked at together."""

    def of(self, index: int) -> RegionView:
        """One of the images."""
        ...


@dataclass(frozen=True, slots=True)
class SeparateViews:
    """Images that were looked at one by one: none was padded for the sake of another."""

    views: Sequence[RegionView]

    def of(self, index: int) -> RegionView:
        """One of the images."""
        return self.views[index]


@runtime_checkable
class RegionEmbedder(Protocol):
    """Turns regions of images into vectors: by a map of the image, by crops, or your own way."""

    def view(self, images: Sequence[PreparedImage]) -> BatchView:
        """Do what is done once per image, for a batch of at least one."""
        ...


@torch.no_grad()
def embed_regions(
    embedder: RegionEmbedder,
    images: Sequence[PreparedImage],
    boxes: Sequence[Float[Tensor, "_ 4"]],
    *,
    groups: Sequence[Sequence[int]],
) -> list[Float[Tensor, "_ D"]]:
    """Vectors of boxes, per image, not normalised and without gradients.

    Args:
        embedder: Makes them.
        images: Any number.
        boxes: Per image, ``xyxy`` in pixels of the prepared image.
        groups: Positions of the images that are looked at together; each image is in one.
    """
    vectors: dict[int, Tensor] = {}
    for rows in groups:
        view = embedder.view([images[row] for row in rows])
        for place, row in enumerate(rows):
            vectors[row] = view.of(place).features(boxes[row])
    return [vectors[row] for row in range(len(images))]


class NoRegions:
    """Stands where a detector proposes regions and embeds none."""

    def view(self, images: Sequence[PreparedImage]) -> BatchView:
        """Raise.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"this detector only proposes regions and cannot embed those of {len(images)} images; "
            "load a model with an image tower"
        )
