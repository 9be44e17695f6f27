"""Detic: a detector that learns from boxes of base classes and from captions of whole images."""

from .cascade_weights import CASCADE_WEIGHTS
from .config import VARIANTS
from .config import DeticConfig as Config
from .model import Detic, build
from .weights import DETIC_WEIGHTS

WEIGHTS = DETIC_WEIGHTS | CASCADE_WEIGHTS

__all__ = ["VARIANTS", "WEIGHTS", "Config", "Detic", "build"]
