"""Regions of an image that is looked at in another size than the one it was prepared in."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from regionclip.structures import PreparedImage

from .embedder import BatchView, RegionEmbedder, RegionView


class ResizedRegions:
    """Gives another embedder each image with a shorter side of its own; for boxes alone."""

    def __init__(self, embedder: RegionEmbedder, *, shortest_side: int) -> None:
        """Resize for ``embedder``.

        Args:
            embedder: Looks at the resized images.
            shortest_side: Pixels of their shorter side.

        Raises:
            ValueError: ``shortest_side`` is not positive.
        """
        if shortest_side < 1:
            raise ValueError(f"shortest_side must be at least 1, got {shortest_side}")
        self._embedder, self._shortest_side = embedder, shortest_side

    def view(self, images: Sequence[PreparedImage]) -> "ResizedViews":
        """Resize and look."""
        resized = [_resized(image, self._shortest_side) for image in images]
        scales = [
            (after.size_hw[1] / before.size_hw[1], after.size_hw[0] / before.size_hw[0])
            for before, after in zip(images, resized, strict=True)
        ]
        return ResizedViews(self._embedder.view(resized), scales)


@dataclass(frozen=True, slots=True)
class ResizedViews:
    """Resized images, looked at.

    Attributes:
        views: Of the resized images.
        scales: Per image, horizontal and vertical, from its pixels to those of the resized one.
    """

    views: BatchView
    scales: Sequence[tuple[float, float]]

    def of(self, index: int) -> "ResizedView":
        """One of the images."""
        return ResizedView(self.views.of(index), self.scales[index])


@dataclass(frozen=True, slots=True)
class ResizedView:
    """One image; see :class:`~regionclip.regions.embedder.RegionView`."""

    resized: RegionView
    scale_xy: tuple[float, float]

    def features(
        self, boxes: Float[Tensor, "R 4"], *, masks: Bool[Tensor, "R H W"] | None = None
    ) -> Float[Tensor, "R D"]:
        """Vectors, not normalised; boxes in pixels of the image before it was resized.

        Raises:
            NotImplementedError: There are masks.
        """
        if masks is not None:
            raise NotImplementedError("masks are not resized; embed them in the image's own size")
        return self.resized.features(boxes * boxes.new_tensor([*self.scale_xy, *self.scale_xy]))

    def last_stage_cells(self, boxes: Float[Tensor, "R 4"]) -> Float[Tensor, "R C g g"]:
        """Those of the resized image; boxes in pixels of the image before it was resized."""
        scale = boxes.new_tensor([*self.scale_xy, *self.scale_xy])
        return self.resized.last_stage_cells(boxes * scale)


def _resized(image: PreparedImage, shortest_side: int) -> PreparedImage:
    height, width = image.size_hw
    scale = shortest_side / min(height, width)
    size = [max(round(height * scale), 1), max(round(width * scale), 1)]
    if size == [height, width]:
        return image
    pixels = F.interpolate(image.pixels[None], size=size, mode="bilinear", antialias=True)[0]
    return replace(image, pixels=pixels)
