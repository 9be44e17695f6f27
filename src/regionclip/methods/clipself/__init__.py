"""CLIPSelf (ICLR 2024): a dense CLIP that learned regions from its own vectors of crops."""

from .config import VARIANTS
from .config import ClipSelfConfig as Config
from .model import ClipSelf, build
from .weights import WEIGHTS

__all__ = ["VARIANTS", "WEIGHTS", "ClipSelf", "Config", "build"]
