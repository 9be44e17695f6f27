"""The systems: one folder each, found by the folder's name."""

from importlib import import_module
from pathlib import Path

from regionclip.weights import (
    Progress,
    WeightsEntry,
    fetch_weights,
    find_entry,
    shared_weights,
)


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


def known_name(name: str | Path) -> str:
    """A name without what open_clip adds to some for their activation, if it is known so.

    open_clip lists OpenAI's models and its own ResNets twice, such as ``yfcc15m:RN50`` and
    ``yfcc15m:RN50-quickgelu``: one file, and one model.
    """
    plain = str(name).removesuffix("-quickgelu")
    return plain if plain in known_weights() else str(name)


def known_entry(name: str | Path) -> WeightsEntry | None:
    """What is known of a name; ``None`` for a path of a file that exists, and for other names."""
    return None if Path(name).exists() else known_weights().get(known_name(name))


def find_weights(name: str | Path, *, progress: Progress | None = None) -> Path:
    """The file of a path or of a known name, downloaded if need be.

    Args:
        name: A file, or a name that ``regionclip models list`` shows.
        progress: Called while it is downloaded; see :func:`regionclip.load`.

    Raises:
        ValueError: There is no such file and no such name.
        ConnectionError: It has to be downloaded and cannot be.
    """
    if Path(name).exists():
        return Path(name)
    return fetch_weights(find_entry(known_name(name), known_weights()), progress=progress)
