"""Regions as whole crops: every region runs through the image tower. Slow, works for any tower."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from regionclip.encoders.clip_resnet import ClipResNet
from regionclip.encoders.crop_encoder import OpenClipEncoder, image_input
from regionclip.structures import PreparedImage


class CropRegions:
    """Region vectors by cutting each region out, as users of plain CLIP do. For inference only."""

    def __init__(self, encoder: ClipResNet | OpenClipEncoder, *, batch_size: int = 64) -> None:
        """Take crops of ``encoder``'s own input size, ``batch_size`` at a time."""
        self._encoder = encoder
        self._batch_size = batch_size

    def view(self, images: Sequence[PreparedImage]) -> "CropBatchView":
        """Keep the images; the work is done per region."""
        return CropBatchView(
            [CropView(self._encoder, image.pixels.cpu(), self._batch_size) for image in images]
        )


@dataclass(frozen=True, slots=True)
class CropBatchView:
    """Images to cut regions from."""

    views: "Sequence[CropView]"

    def of(self, index: int) -> "CropView":
        """One of the images."""
        return self.views[index]


class CropView:
    """One image to cut regions from; see :class:`~regionclip.regions.embedder.RegionView`."""

    def __init__(
        self, encoder: ClipResNet | OpenClipEncoder, pixels: Tensor, batch_size: int
    ) -> None:
        self._encoder = encoder
        self._pixels = pixels
        self._batch_size = batch_size
        self._size, self._mean, self._std = image_input(encoder)

    def features(
        self, boxes: Float[Tensor, "R 4"], *, masks: Bool[Tensor, "R H W"] | None = None
    ) -> Float[Tensor, "R D"]:
        """Vectors, not normalised; pixels outside a mask take the encoder's mean colour."""
        device = self._encoder.device
        vectors = []
        for start in range(0, max(len(boxes), 1), self._batch_size):
            chunk = boxes[start : start + self._batch_size].tolist()
            crops = [torch.zeros(0, 3, *self._size)]
            for row, box in enumerate(chunk, start):
                mask = None if masks is None else masks[row].cpu()
                crops.append(self._crop(box, mask))
            batch = (torch.cat(crops) - self._mean) / self._std
            vectors.append(self._encoder.encode_image(batch.to(device)).float())
        return torch.cat(vectors)

    def last_stage_cells(self, boxes: Float[Tensor, "R 4"]) -> Float[Tensor, "R C g g"]:
        """Crops have none.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("masks need regions cut from a map, not whole crops")

    def _crop(self, box: Sequence[float], mask: Tensor | None) -> Tensor:
        """``(1, 3, *size)``: the box, grown to whole pixels, squeezed to the encoder's input."""
        pixels = self._pixels
        height, width = pixels.shape[1:]
        left, top = min(int(box[0]), width - 1), min(int(box[1]), height - 1)
        right, bottom = max(left + 1, -int(-box[2] // 1)), max(top + 1, -int(-box[3] // 1))
        crop = pixels[:, top:bottom, left:right]
        if mask is not None:
            crop = torch.where(mask[top:bottom, left:right], crop, self._mean)
        return F.interpolate(crop[None], self._size, mode="bicubic", antialias=True).clamp(0, 1)
