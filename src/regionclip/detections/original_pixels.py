"""Detections in the network's input, as detections in the image that the caller gave."""

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from regionclip.structures import Detections, PreparedImage

from .box_coder import clip_boxes, nonempty
from .masks import paste_masks


def in_original_pixels(
    found: Detections, image: PreparedImage, mask_probs: Float[Tensor, "N h w"] | None
) -> Detections:
    """Scale boxes to the original image, paste masks into it, drop boxes that became empty.

    Args:
        found: Boxes in pixels of the prepared image.
        image: The prepared image.
        mask_probs: One square of probabilities per box, over the box; ``None`` gives no masks.
    """
    boxes = clip_boxes(found.boxes * image.scale_xyxy, image.original_size_hw)
    is_kept = nonempty(boxes)
    found = replace(found, boxes=boxes).select(is_kept)
    if mask_probs is None:
        return found
    # pasted last: masks of a large image take gigabytes, and selecting copies them
    masks = paste_masks(mask_probs[is_kept], found.boxes, image.original_size_hw)
    return replace(found, masks=masks)
