"""Images to network input: resized as the originals do, normalised, padded to a batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

Interpolation = Literal["bilinear", "bicubic"]
SizeRule = Literal["detectron2", "detr", "longest"]
Padding = Literal["square", "cells"]
"""``square``: to the longer side. ``cells``: no more than the tower needs."""
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def resize_shortest_edge(
    image: Image.Image,
    *,
    shortest: int,
    longest: int,
    interpolation: Interpolation = "bilinear",
    rule: SizeRule = "detectron2",
) -> Float[Tensor, "3 H W"]:
    """Resize an RGB image so that its shorter side is ``shortest`` and no side above ``longest``.

    Args:
        image: RGB.
        shortest: Pixels of the shorter side, unless the longer one would exceed ``longest``.
        longest: Most pixels of the longer side.
        interpolation: PIL's filter.
        rule: Whose sizes: detectron2's, :func:`detr_size`, or :func:`longest_size`, which leaves
            ``shortest`` out.

    Returns:
        RGB in [0, 1]. Resizing happens on ``uint8`` with PIL's antialiasing filter: other filters
        give other pixels, and other numbers after them.

    Source:
        facebookresearch/detectron2@e3ee0ab ``detectron2/data/transforms/augmentation_impl.py``
        (``ResizeShortestEdge``).
    """
    new_size = size_by_rule(image.size, shortest=shortest, longest=longest, rule=rule)
    if new_size != image.size:
        image = image.resize(new_size, FILTERS[interpolation])
    return pixels_of(image)


def size_by_rule(
    size: tuple[int, int], *, shortest: int, longest: int, rule: SizeRule
) -> tuple[int, int]:
    """The width and height that :func:`resize_shortest_edge` gives an image of ``size``."""
    return _SIZES[rule](size, shortest, longest)


def _resized(size: tuple[int, int], shortest: int, longest: int) -> tuple[int, int]:
    """The new width and height; in two steps, as upstream: in one, some halves round otherwise."""
    scale = shortest / min(size)
    width, height = (shortest if side == min(size) else side * scale for side in size)
    if max(width, height) > longest:
        scale = longest / max(width, height)
        width, height = width * scale, height * scale
    return max(int(width + 0.5), 1), max(int(height + 0.5), 1)


def detr_size(size: tuple[int, int], shortest: int, longest: int) -> tuple[int, int]:
    """The size that DETR and its descendants resize an image to.

    If the longer side would exceed the limit, the target of the shorter one is lowered first, to
    the nearest pixel; then the longer side is rounded down, so it may end below the limit.

    Args:
        size: In any order.
        shortest: Pixels of the shorter side.
        longest: Most pixels of the longer side.

    Returns:
        In the order of ``size``.

    Source:
        facebookresearch/detr ``datasets/transforms.py`` (``get_size_with_aspect_ratio``).
    """
    short, long = min(size), max(size)
    if long / short * shortest > longest:
        shortest = max(round(longest * short / long), 1)
    if short == shortest:
        return size
    first, second = (shortest if side == short else int(shortest * side / short) for side in size)
    return first, second


def longest_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """The size at which the longer side is ``longest`` pixels, whatever the shorter one.

    Args:
        size: In any order.
        longest: Pixels of the longer side.

    Returns:
        In the order of ``size``, at least 1; halves go to the even number.

    Source:
        CLIPSelf (arXiv:2310.01403), sec. 4.1; wusize/CLIPSelf@1c7fe9c (``det_image_size``).
    """
    scale = longest / max(size)
    first, second = (max(round(side * scale), 1) for side in size)
    return first, second


_SIZES: Mapping[SizeRule, Callable[[tuple[int, int], int, int], tuple[int, int]]] = {
    "detectron2": _resized,
    "detr": detr_size,
    "longest": lambda size, _shortest, longest: longest_size(size, longest),
}


def pad_with_black(
    image: Float[Tensor, "3 H W"], *, padding: Padding, size_divisor: int
) -> Float[Tensor, "3 I J"]:
    """Fill an image in [0, 1] up at the right and at the bottom, before it is normalised.

    Args:
        image: RGB.
        padding: See :data:`Padding`.
        size_divisor: Both sides become multiples of this.
    """
    height, width = image.shape[1:]
    wanted = (max(height, width),) * 2 if padding == "square" else (height, width)
    below, right = (
        -(-side // size_divisor) * size_divisor - own
        for side, own in zip(wanted, (height, width), strict=True)
    )
    return F.pad(image, (0, right, 0, below))


def pixels_of(image: Image.Image) -> Float[Tensor, "3 H W"]:
    """An RGB image as a tensor in [0, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div_(255)


def normalized(
    images: Float[Tensor, "B 3 H W"], *, mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "B 3 H W"]:
    """Images of one size in the units that a tower takes; ``mean`` and ``std`` are per channel."""
    means, stds = (images.new_tensor(each)[:, None, None] for each in (mean, std))
    return (images - means) / stds


def rows_by_size(sizes_hw: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Which of some images are of one size, so that they go through a network without padding."""
    rows: dict[tuple[int, int], list[int]] = {}
    for row, size_hw in enumerate(sizes_hw):
        rows.setdefault(size_hw, []).append(row)
    return list(rows.values())


def maps_by_size(
    images: Sequence[Tensor], compute: Callable[[list[Tensor]], Sequence[Tensor]]
) -> list[list[Tensor]]:
    """Maps of each image, of several scales perhaps.

    Images of one size go through a network together, others on their own: padding beside a larger
    image would change an image's maps near its border.

    Args:
        images: ``(3, H, W)`` each.
        compute: From images of one size to maps ``(B, F, h, w)`` of all of them.

    Returns:
        Per image, its maps ``(1, F, h, w)`` in the order of ``compute``.
    """
    found: dict[int, list[Tensor]] = {}
    for rows in rows_by_size([(int(each.shape[1]), int(each.shape[2])) for each in images]):
        maps = compute([images[row] for row in rows])
        for place, row in enumerate(rows):
            found[row] = [each[place, None] for each in maps]
    return [found[row] for row in range(len(images))]


def normalize_and_pad(
    images: Sequence[Tensor],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    size_divisor: int = 1,
) -> Float[Tensor, "B 3 H W"]:
    """Normalise images one by one, then pad them with zeros at the right and bottom.

    Args:
        images: At least one, ``(3, H, W)`` each, on one device.
        mean: Per channel, in the units of ``images``.
        std: Per channel, in the units of ``images``.
        size_divisor: Height and width of the batch are multiples of this.

    Raises:
        ValueError: There is no image.
    """
    if not images:
        raise ValueError("a batch needs at least one image, got none")
    height, width = (
        -(-max(image.shape[axis] for image in images) // size_divisor) * size_divisor
        for axis in (1, 2)
    )
    batch = images[0].new_zeros(len(images), 3, height, width)
    means = batch.new_tensor(mean)[:, None, None]
    stds = batch.new_tensor(std)[:, None, None]
    for row, image in zip(batch, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = (image - means) / stds
    return batch
