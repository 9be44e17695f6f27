"""Masks as text: COCO's compressed run-length encoding, which pycocotools reads and writes."""

from collections.abc import Sequence

import numpy as np
import torch
from faster_coco_eval.core import mask as mask_api
from jaxtyping import Bool
from torch import Tensor


def encode_masks(masks: Bool[Tensor, "N H W"]) -> list[str]:
    """The ``counts`` of each mask; with ``size`` ``[H, W]`` they are a COCO ``segmentation``.

    Source:
        cocodataset/cocoapi@8c9bcc3 ``common/maskApi.c`` (``rleToString``), as faster-coco-eval
        has it.
    """
    # one at a time: the encoder copies what it gets
    rows = (np.asfortranarray(mask.numpy().astype(np.uint8)) for mask in masks.cpu())
    return [mask_api.encode(row)["counts"].decode("ascii") for row in rows]


def decode_masks(counts: Sequence[str], size_hw: tuple[int, int]) -> Bool[Tensor, "N H W"]:
    """The masks that :func:`encode_masks` encoded.

    Args:
        counts: One text per mask.
        size_hw: Height and width of every mask.

    Raises:
        ValueError: A text is none that encodes a mask of this size.
    """
    masks = torch.zeros(len(counts), *size_hw, dtype=torch.bool)
    for row, each in enumerate(counts):
        try:
            decoded = mask_api.decode({"size": list(size_hw), "counts": each})
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"mask {row} is damaged ({error})") from error
        masks[row] = torch.from_numpy(np.ascontiguousarray(decoded)).bool()
    return masks


def mask_areas(counts: Sequence[str], size_hw: tuple[int, int]) -> list[int]:
    """Pixels of each encoded mask."""
    return [int(mask_api.area({"size": list(size_hw), "counts": each})) for each in counts]
