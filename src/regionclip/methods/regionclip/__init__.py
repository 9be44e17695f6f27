"""RegionCLIP (CVPR 2022): a CLIP that was trained to name regions, and a frozen localiser."""

from .config import VARIANTS
from .config import RegionClipConfig as Config
from .model import RegionClip, build
from .weights import WEIGHTS

__all__ = ["VARIANTS", "WEIGHTS", "Config", "RegionClip", "build"]
