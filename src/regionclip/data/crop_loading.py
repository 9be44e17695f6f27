"""Images from disk and regions of them as pictures of their own: self-distillation's batches."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from random import Random

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from regionclip.detections.box_coder import clip_boxes
from regionclip.pairs.crops import RegionDraw, cut_crops, enlarged
from regionclip.proposals.proposer import Proposer
from regionclip.structures import CropBatch, PreparedImage

from .datasets import Dataset, Sample
from .detection_loading import read_first
from .letterbox import fit_at_corner
from .sampling import Draw, Loading, parts_of_steps, read_ahead
from .transforms import pixels_of


@dataclass(frozen=True, kw_only=True, slots=True)
class CropPairing:
    """What is made of an image for self-distillation."""

    regions: RegionDraw
    """Which regions are drawn."""
    image_side: int
    """Pixels of the square that an image is fitted into."""
    crop_side: int
    """Pixels of the square that each region is letter-boxed into."""

    def __post_init__(self) -> None:
        if self.image_side < 1 or self.crop_side < 1:
            raise ValueError(
                f"image_side and crop_side must be positive, got {self.image_side} and "
                f"{self.crop_side}"
            )


@dataclass(frozen=True, slots=True)
class PairedCrops:
    """One image; see :class:`~regionclip.structures.CropBatch`."""

    pixels: Float[Tensor, "3 S S"]
    boxes: Float[Tensor, "R 4"]
    crops: Float[Tensor, "R 3 s s"]
    step: int = 0


def pair_crops(
    picture: Image.Image, boxes: Float[Tensor, "N 4"], pairing: CropPairing, *, chance: Random
) -> PairedCrops:
    """Draw regions of an image and cut them out.

    Args:
        picture: RGB.
        boxes: What is known to lie in it, ``xyxy`` in its pixels; it is clipped to the picture.
        pairing: What to draw.
        chance: Of the regions.

    Source:
        CLIPSelf (arXiv:2310.01403), sec. 3.2; wusize/CLIPSelf@1c7fe9c (order of draws, sizes).
    """
    size_hw = (picture.height, picture.width)
    own = pairing.regions.draw(size_hw, clip_boxes(boxes, size_hw), chance)
    seen = enlarged(own, pairing.regions.crop_scale, size_hw)
    return PairedCrops(
        pixels_of(fit_at_corner(picture, pairing.image_side)),
        own * (pairing.image_side / max(size_hw)),
        cut_crops(picture, seen, side=pairing.crop_side),
    )


class CropImages(TorchDataset[PairedCrops]):
    """Reads the images of :class:`~.sampling.Draw`s and cuts them up."""

    def __init__(
        self, dataset: Dataset, pairing: CropPairing, proposer: Proposer | None = None
    ) -> None:
        """Read nothing yet; at least one image. Arguments as those of :func:`crop_batches`."""
        self.dataset, self.pairing, self.proposer = dataset, pairing, proposer

    def __getitem__(self, draw: Draw) -> PairedCrops:
        """One image; if it cannot be read, the next one that can, and the log names it.

        Raises:
            ImageReadError: No image of the data set can be read.
        """
        sample, picture = read_first(self.dataset, draw.index)
        boxes = self._boxes_of(sample, picture)
        paired = pair_crops(picture, boxes, self.pairing, chance=Random(draw.seed))
        return replace(paired, step=draw.step)

    def _boxes_of(self, sample: Sample, picture: Image.Image) -> Float[Tensor, "N 4"]:
        if self.proposer is None:
            return sample.objects.boxes[~sample.objects.is_crowd]
        size_hw = (picture.height, picture.width)
        image = PreparedImage(pixels_of(picture), size_hw, sample.name)
        return self.proposer.propose([image])[0].boxes


def crop_batches(
    dataset: Dataset, loading: Loading[CropPairing], *, proposer: Proposer | None = None
) -> Callable[[int], Iterable[CropBatch]]:
    """This process's batches of a run, from any part of it on.

    Args:
        dataset: What to train on; boxes matter only where regions are drawn from them.
        loading: How.
        proposer: Boxes that were stored, or others that take no network, to draw regions from;
            it is called where images are read. ``None`` takes the data set's.

    Returns:
        From the number of parts that are done, an iterable of those that are left.
    """
    images = CropImages(dataset, loading.augmentation, proposer)

    def from_part(first: int) -> Iterable[CropBatch]:
        parts = parts_of_steps(len(dataset), loading)
        left = list(islice(parts, first, loading.num_parts))
        return read_ahead(images, left, loading, collate)

    return from_part


def collate(images: Sequence[PairedCrops]) -> CropBatch:
    """Images of one size as one batch; they are of one step."""
    return CropBatch(
        images=torch.stack([each.pixels for each in images]),
        boxes=tuple(each.boxes for each in images),
        crops=torch.cat([each.crops for each in images]),
        step=images[0].step,
    )
