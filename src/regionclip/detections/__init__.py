"""Boxes, scores and masks of regions, to the detections of an image."""

from .box_coder import clip_boxes, decode_boxes, encode_boxes, nonempty
from .masks import paste_masks
from .nms import batched_nms
from .run_lengths import decode_masks, encode_masks, mask_areas
from .select import Selection, SelectionOptions, select_detections
from .soft_nms import soft_nms

__all__ = [
    "Selection",
    "SelectionOptions",
    "batched_nms",
    "clip_boxes",
    "decode_boxes",
    "decode_masks",
    "encode_boxes",
    "encode_masks",
    "mask_areas",
    "nonempty",
    "paste_masks",
    "select_detections",
    "soft_nms",
]
