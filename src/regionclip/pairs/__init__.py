"""What a region is to learn: regions paired with the objects of their image."""

from .boxes import LabelledRegions, Permutation, pair_regions, random_permutation
from .masks import mask_targets

__all__ = ["LabelledRegions", "Permutation", "mask_targets", "pair_regions", "random_permutation"]
