"""A map and boxes or masks, to one text-aligned vector per region."""

from .region_head import RegionHead
from .roi_align import roi_align

__all__ = ["RegionHead", "roi_align"]
