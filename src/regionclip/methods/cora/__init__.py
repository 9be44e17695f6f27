"""CORA (CVPR 2023): CLIP names regions through a region prompt; a localiser is told the names."""

from .config import VARIANTS
from .config import CoraConfig as Config
from .model import Cora, build
from .weights import WEIGHTS

__all__ = ["VARIANTS", "WEIGHTS", "Config", "Cora", "build"]
