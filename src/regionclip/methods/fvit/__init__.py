"""F-ViT and F-VLM: a detector trained on a frozen CLIP, and that CLIP's own opinion, as one."""

from .config import VARIANTS
from .config import FvitConfig as Config
from .model import Fvit, build
from .weights import WEIGHTS

__all__ = ["VARIANTS", "WEIGHTS", "Config", "Fvit", "build"]
