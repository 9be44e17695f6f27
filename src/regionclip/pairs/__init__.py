"""What a region or query is to learn: an object of its image, or a concept."""

from .boxes import LabelledRegions, Permutation, check_labels, pair_regions, random_permutation
from .concepts import RegionConcepts, match_regions_to_concepts
from .masks import mask_targets
from .queries import MatchingCosts, QueryMatches, match_queries

__all__ = [
    "LabelledRegions",
    "MatchingCosts",
    "Permutation",
    "QueryMatches",
    "RegionConcepts",
    "check_labels",
    "mask_targets",
    "match_queries",
    "match_regions_to_concepts",
    "pair_regions",
    "random_permutation",
]
