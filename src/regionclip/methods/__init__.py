"""The systems: one folder each, found by the folder's name."""

from importlib import import_module
from pathlib import Path

from regionclip.weights import WeightsEntry, shared_weights


def list_methods() -> tuple[str, ...]:
    """Names of all methods, sorted."""
    folders = Path(__file__).parent.glob("*/__init__.py")
    return tuple(sorted(folder.parent.name for folder in folders))


def known_weights() -> dict[str, WeightsEntry]:
    """Every file that can be loaded by a name: those of all methods, CLIP's and torchvision's."""
    entries: dict[str, WeightsEntry] = {}
    for method in list_methods():
        entries |= import_module(f"regionclip.methods.{method}").WEIGHTS
    return entries | shared_weights()
