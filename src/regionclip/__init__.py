"""Region-level vision-language models: detect anything by name, embed any region."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data.images import ImageReadError
    from .detect import DetectOptions, Detector, DetectorParts
    from .detections.select import SelectionOptions
    from .loading import LoadOptions, load, open_proposals
    from .proposals.proposer import NovelClasses
    from .structures import Detections, Proposals
    from .vocabulary import Vocabulary

__version__ = "0.1.0"
__all__ = [
    "DetectOptions",
    "Detections",
    "Detector",
    "DetectorParts",
    "ImageReadError",
    "LoadOptions",
    "NovelClasses",
    "Proposals",
    "SelectionOptions",
    "Vocabulary",
    "load",
    "open_proposals",
]

_HOMES = {
    "DetectOptions": "detect",
    "Detections": "structures",
    "Detector": "detect",
    "DetectorParts": "detect",
    "ImageReadError": "data.images",
    "LoadOptions": "loading",
    "NovelClasses": "proposals.proposer",
    "Proposals": "structures",
    "SelectionOptions": "detections.select",
    "Vocabulary": "vocabulary",
    "load": "loading",
    "open_proposals": "loading",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that ``regionclip --help`` does not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'regionclip' has no attribute {name!r}")
    return getattr(import_module(f"regionclip.{_HOMES[name]}"), name)
