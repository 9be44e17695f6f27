"""Names of result files."""

from hashlib import blake2b
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regionclip.data.sources import NamedSource


class FileNames:
    """One result file per image, below one folder, never two images in one file.

    ``a/b.c.jpg`` (its path below the folder it was found through) becomes ``a/b.c.pth``; if another
    image has that, ``a/b.c.jpg.pth``; if that is taken too, a digest of the path is added.
    """

    def __init__(self, suffix: str) -> None:
        """Name files ``*suffix``, such as ``.pth``."""
        self._suffix = suffix
        self._owners: dict[str, str] = {}

    def claim(self, file: str, name: str) -> None:
        """Note that ``file`` is the image ``name``'s already."""
        self._owners[file] = name

    def of(self, source: "NamedSource") -> str:
        """The image's file, relative to the folder; always the same for the same image."""
        whole = PurePosixPath(source.relative)
        digest = blake2b(source.name.encode(), digest_size=4).hexdigest()
        for stem in (whole.with_suffix(""), whole, PurePosixPath(f"{whole}-{digest}")):
            file = f"{stem}{self._suffix}"
            if self._owners.setdefault(file, source.name) == source.name:
                return file
        raise ValueError(f"{source.name}: no file name is left for its results ({file} is taken)")
