"""Regions as whole crops: every region runs through the image tower. Slow, works for any tower."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from regionclip.encoders.crop_encoder import CropEncoder, image_input
from regionclip.structures import PreparedImage

from .embedder import SeparateViews
from .region_head import DEFAULT_MEMORY_BUDGET

LIVE_OUTPUTS, CROP_COPIES = 4, 3
"""What is alive at the peak, per crop: outputs of the size of the tower's largest, and the crop
itself (cut out, in the batch, normalised). Measured on a CPU, a tower's forward pass takes 3.5
times its largest output (RN50) or 3.0 times (ViT-B-32, ViT-B-16)."""


class CropRegions:
    """Region vectors by cutting each region out, as users of plain CLIP do. For inference only."""

    def __init__(
        self,
        encoder: CropEncoder,
        *,
        dtype: torch.dtype = torch.float32,
        memory_budget: int = DEFAULT_MEMORY_BUDGET,
        batch_size: int = 64,
    ) -> None:
        """Take crops of ``encoder``'s own input size.

        Args:
            encoder: Its image tower makes the vectors.
            dtype: What the tower's convolutions and products run in, by autocast, which suits any
                architecture; norms and what must not overflow stay in float32.
            memory_budget: Bytes of intermediate results; makes chunks of crops smaller if need be.
            batch_size: Crops at a time at most; more are no faster.

        Raises:
            ValueError: ``memory_budget`` or ``batch_size`` is not positive.
        """
        if memory_budget <= 0:
            raise ValueError(f"memory_budget must be positive, got {memory_budget} bytes")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self._encoder = encoder
        self._dtype = dtype
        self._memory_budget = memory_budget
        self._batch_size = batch_size
        self._size_hw, self._mean, self._std = image_input(encoder)
        self._grey = torch.zeros(1, 3, *self._size_hw)

    def view(self, images: Sequence[PreparedImage]) -> SeparateViews:
        """Keep the images; the work is done per region."""
        return SeparateViews([CropView(self, image.pixels.cpu()) for image in images])

    @cached_property
    def chunk_size(self) -> int:
        """Crops at a time within the memory budget, at least one.

        Estimated in float32, in whatever precision the tower runs, from one grey crop: see
        :data:`LIVE_OUTPUTS`.
        """
        largest = _largest_output(self._encoder, lambda: self._vectors(self._grey))
        bytes_per_crop = 4 * (LIVE_OUTPUTS * largest + CROP_COPIES * self._grey.numel())
        return min(self._batch_size, max(1, self._memory_budget // bytes_per_crop))

    def encode(
        self, pixels: Float[Tensor, "3 H W"], boxes: Tensor, masks: Tensor | None
    ) -> Float[Tensor, "R D"]:
        """Vectors of the boxes of one image; see :meth:`CropView.features`."""
        if len(boxes) == 0:
            # not every tower takes an empty batch, and only the tower knows how long vectors are
            return self._vectors(self._grey)[:0]
        size = self.chunk_size if len(boxes) > 1 else 1
        vectors = []
        for start in range(0, len(boxes), size):
            crops = []
            for row, box in enumerate(boxes[start : start + size].tolist(), start):
                mask = None if masks is None else masks[row].cpu()
                crops.append(self._crop(pixels, box, mask))
            vectors.append(self._vectors((torch.cat(crops) - self._mean) / self._std))
        return torch.cat(vectors)

    def _vectors(self, crops: Tensor) -> Tensor:
        device = self._encoder.device
        is_reduced = self._dtype != torch.float32
        with torch.autocast(device.type, dtype=self._dtype, enabled=is_reduced):
            return self._encoder.encode_image(crops.to(device)).float()

    def _crop(self, pixels: Tensor, box: Sequence[float], mask: Tensor | None) -> Tensor:
        """``(1, 3, *size)``: the box, grown to whole pixels, squeezed to the encoder's input."""
        height, width = pixels.shape[1:]
        left, top = min(int(box[0]), width - 1), min(int(box[1]), height - 1)
        right, bottom = max(left + 1, -int(-box[2] // 1)), max(top + 1, -int(-box[3] // 1))
        crop = pixels[:, top:bottom, left:right]
        if mask is not None:
            crop = torch.where(mask[top:bottom, left:right], crop, self._mean)
        return F.interpolate(crop[None], self._size_hw, mode="bicubic", antialias=True).clamp(0, 1)


@dataclass(frozen=True, slots=True)
class CropView:
    """One image to cut regions from; see :class:`~regionclip.regions.embedder.RegionView`."""

    regions: CropRegions
    pixels: Float[Tensor, "3 H W"]

    def features(
        self, boxes: Float[Tensor, "R 4"], *, masks: Bool[Tensor, "R H W"] | None = None
    ) -> Float[Tensor, "R D"]:
        """Vectors, not normalised; pixels outside a mask take the encoder's mean colour."""
        return self.regions.encode(self.pixels, boxes, masks)

    def last_stage_cells(self, boxes: Float[Tensor, "R 4"]) -> Float[Tensor, "R C g g"]:
        """Crops have none.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("masks need regions cut from a map, not whole crops")


def _largest_output(network: CropEncoder, run: Callable[[], Tensor]) -> int:
    """Numbers in the largest output of any of the network's modules while ``run`` runs."""
    sizes = [0]

    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
        outputs = output if isinstance(output, tuple) else (output,)
        sizes.extend(each.numel() for each in outputs if isinstance(each, Tensor))

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return max(sizes)
