"""What a region or query is to learn: an object of its image, a concept, a caption, or a crop."""

from .boxes import LabelledRegions, Permutation, check_labels, pair_regions, random_permutation
from .caption_queue import CaptionQueue
from .captions import caption_id, image_id
from .compositions import Composition, compose, draw_groups, largest_in_tiles
from .concepts import RegionConcepts, match_regions_to_concepts
from .masks import mask_targets
from .mosaics import Mosaics, compose_mosaics, mosaic_sides, tile_boxes
from .queries import MatchingCosts, QueryMatches, match_queries

__all__ = [
    "CaptionQueue",
    "Composition",
    "LabelledRegions",
    "MatchingCosts",
    "Mosaics",
    "Permutation",
    "QueryMatches",
    "RegionConcepts",
    "caption_id",
    "check_labels",
    "compose",
    "compose_mosaics",
    "draw_groups",
    "image_id",
    "largest_in_tiles",
    "mask_targets",
    "match_queries",
    "match_regions_to_concepts",
    "mosaic_sides",
    "pair_regions",
    "random_permutation",
    "tile_boxes",
]
