"""A generated world of named pictograms, for demonstrations and tests without any download."""

from .backgrounds import DOMAINS, Domain
from .captions import names_in_caption
from .coco import coco_annotations, write_close_ups, write_coco, write_panoptic
from .glyphs import BASE_NAMES, CLASS_NAMES, NOVEL_NAMES
from .scenes import SCENE_SIZE, Scene, draw_close_up, draw_scene

__all__ = [
    "BASE_NAMES",
    "CLASS_NAMES",
    "DOMAINS",
    "NOVEL_NAMES",
    "SCENE_SIZE",
    "Domain",
    "Scene",
    "coco_annotations",
    "draw_close_up",
    "draw_scene",
    "names_in_caption",
    "write_close_ups",
    "write_coco",
    "write_panoptic",
]
