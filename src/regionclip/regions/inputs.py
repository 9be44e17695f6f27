"""A caller's boxes or masks of the original image, in pixels of the prepared one."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import masks_to_boxes

from regionclip.detections.box_coder import clip_boxes
from regionclip.structures import PreparedImage


def boxes_input(boxes: Tensor, image: PreparedImage) -> Float[Tensor, "R 4"]:
    """Scale boxes of the original image to the prepared one, and clip them to it.

    Raises:
        ValueError: ``boxes`` is not ``(R, 4)``, has a number that is not finite, a box whose right
            or bottom lies before its left or top, or one without any area inside the image: what
            would be seen there is the image's edge.
    """
    clipped = listed_boxes_input(boxes, image)
    is_empty = (clipped[:, 2:] <= clipped[:, :2]).any(dim=1)
    if is_empty.any():
        row = int(is_empty.nonzero()[0])
        height, width = image.original_size_hw
        raise ValueError(
            f"boxes must have an area inside the image, which is {width} pixels wide and {height} "
            f"high, but box {row} is {boxes[row].tolist()}"
        )
    return clipped


def listed_boxes_input(boxes: Tensor, image: PreparedImage) -> Float[Tensor, "R 4"]:
    """As :func:`boxes_input`, for boxes of annotations and lists, whose rows have to stay.

    A box wholly outside the image becomes a row without area at its edge.

    Raises:
        ValueError: As :func:`boxes_input`, but for boxes without area.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must be (R, 4) in xyxy order, got shape {tuple(boxes.shape)}")
    boxes = boxes.float().cpu()
    bad = ~boxes.isfinite().all(dim=1) | (boxes[:, 2:] < boxes[:, :2]).any(dim=1)
    if bad.any():
        row = int(bad.nonzero()[0])
        raise ValueError(
            f"boxes must be finite with x0 <= x1 and y0 <= y1 (xyxy, not xywh), "
            f"but box {row} is {boxes[row].tolist()}"
        )
    return clip_boxes(boxes / image.scale_xyxy, image.size_hw)


def regions_input(
    regions: Tensor, image: PreparedImage
) -> tuple[Float[Tensor, "R 4"], Bool[Tensor, "R H W"] | None]:
    """Boxes in the prepared image, with masks over it where masks were given.

    Args:
        regions: Boxes ``(R, 4)`` or boolean masks ``(R, H, W)`` over the original image.
        image: The prepared image.

    Raises:
        ValueError: ``regions`` is neither, a mask is empty or not of the image's size, or a box has
            no area inside the image.
    """
    if regions.ndim != 3:
        return boxes_input(regions, image), None
    if regions.dtype != torch.bool or tuple(regions.shape[1:]) != image.original_size_hw:
        raise ValueError(
            f"masks must be bool of shape (R, {image.original_size_hw[0]}, "
            f"{image.original_size_hw[1]}), the size of {image.name}, got {regions.dtype} "
            f"{tuple(regions.shape)}"
        )
    empty = ~regions.flatten(1).any(dim=1)
    if empty.any():
        raise ValueError(f"mask {int(empty.nonzero()[0])} of {image.name} has no pixel")
    boxes = masks_to_boxes(regions) if len(regions) else torch.zeros(0, 4)
    boxes[:, 2:] += 1  # masks_to_boxes gives the last pixel, not the edge after it
    masks = F.interpolate(regions[:, None].float(), image.size_hw, mode="nearest")[:, 0] > 0
    lost = ~masks.flatten(1).any(dim=1)
    if lost.any():  # the nearest pixels may miss a thin mask of a large image
        shrunk = F.adaptive_max_pool2d(regions[lost][:, None].float(), image.size_hw)
        masks[lost] = shrunk[:, 0] > 0
    return boxes_input(boxes, image), masks
