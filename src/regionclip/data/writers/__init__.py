"""Data sets into the files that other tools take: COCO json, YOLO folders."""

from .coco import written_coco
from .images import ImagePlacing, check_apart, image_names, place_images, relative_names
from .yolo import YoloLosses, write_yolo

__all__ = [
    "ImagePlacing",
    "YoloLosses",
    "check_apart",
    "image_names",
    "place_images",
    "relative_names",
    "write_yolo",
    "written_coco",
]
