"""Files and folders written whole or not at all; what asks for them need not wait for torch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file beside its place first; whoever is killed in between leaves the old one.

    Args:
        path: Its folder is made.

    Yields:
        Where to write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(path)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Write a folder whole or not at all.

    Args:
        path: It must not be there; its parent is made.

    Yields:
        An empty folder beside it to write into, so that relative paths stay right.
    """
    partial = _beside(path)
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(path)
    finally:
        rmtree(partial, ignore_errors=True)


def _beside(path: Path) -> Path:
    """The unfinished one's place: of the same folder, so that renaming moves no bytes."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")
