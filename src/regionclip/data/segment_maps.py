"""Masks of an image's segments, from the PNG that COCO's panoptic format keeps them in."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor
from torchvision.ops import masks_to_boxes

from .datasets import Sample
from .images import ImageReadError


def segment_masks(sample: Sample) -> Bool[Tensor, "N H W"]:
    """One mask per object of an image, over its pixels; one without a pixel is empty.

    Raises:
        ValueError: The data set has no segments, or they were read without their ids.
        ImageReadError: The PNG cannot be read.

    Source: COCO's panoptic format: id = R + 256 G + 256^2 B.
    """
    if sample.segment_map is None or len(sample.objects.ids) != len(sample.objects):
        raise ValueError(
            f"{sample.name} comes without masks of its segments; give a COCO panoptic json, with "
            "the folder of its PNG files beside it"
        )
    try:
        with Image.open(sample.segment_map) as picture:
            # a copy: Pillow's own memory cannot be written to, and torch asks for that
            colors = np.array(picture.convert("RGB"), dtype=np.int64)
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageReadError(f"{sample.segment_map} cannot be read: {error}") from error
    ids = torch.from_numpy(colors) @ torch.tensor([1, 256, 256**2])
    return ids[None] == torch.tensor(sample.objects.ids, dtype=torch.int64)[:, None, None]


def mask_extents(masks: Bool[Tensor, "N H W"]) -> Float[Tensor, "N 4"]:
    """``xyxy`` from the first to the last pixel of each mask, not to the edge after it.

    An empty mask gives zeros.

    Source: wusize/CLIPSelf@1c7fe9c, which judges stuff in these boxes.
    """
    is_empty = ~masks.flatten(1).any(dim=1)
    boxes = torch.zeros(len(masks), 4)
    if not bool(is_empty.all()):
        boxes[~is_empty] = masks_to_boxes(masks[~is_empty])
    return boxes
