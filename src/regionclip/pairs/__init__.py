"""What a region is to learn: regions paired with objects of their image, or with concepts."""

from .boxes import LabelledRegions, Permutation, pair_regions, random_permutation
from .concepts import RegionConcepts, match_regions_to_concepts
from .masks import mask_targets

__all__ = [
    "LabelledRegions",
    "Permutation",
    "RegionConcepts",
    "mask_targets",
    "match_regions_to_concepts",
    "pair_regions",
    "random_permutation",
]
