"""CLIM (AAAI 2024): a CLIP whose dense map learned regions from mosaics of captioned images."""

from .config import VARIANTS
from .config import ClimConfig as Config
from .model import Clim, build
from .weights import WEIGHTS

__all__ = ["VARIANTS", "WEIGHTS", "Clim", "Config", "build"]
