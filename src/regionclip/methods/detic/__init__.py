"""Detic: a detector that learns from boxes of base classes and from captions of whole images."""

from .cascade_config import CASCADES as VARIANTS
from .cascade_config import CascadeConfig as Config
from .cascade_model import CascadeDetic
from .cascade_model import build_cascade as build
from .cascade_weights import CASCADE_WEIGHTS as WEIGHTS

__all__ = ["VARIANTS", "WEIGHTS", "CascadeDetic", "Config", "build"]
