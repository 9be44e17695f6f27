"""Which webdataset shards a user means: local paths and addresses of object storage."""

import re
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from .images import URL
from .readers.opening import locate
from .sources import PATTERN

SUFFIX = ".tar"
WEB = ("http://", "https://")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def find_shards(inputs: Sequence[str]) -> tuple[str, ...]:
    """List shards, each once; nothing is opened, and local paths are not looked for.

    Args:
        inputs: Each one of

            - a path or an address (``s3://bucket/00000.tar``, ``https://...``);
            - with braces, several: ``{00000..00331}.tar``, ``{train,val}.tar``;
            - a pattern: ``shards/*.tar``, ``s3://bucket/cc3m/*.tar``, sorted;
            - a local folder: the shards in it, sorted.

    Returns:
        In the order of ``inputs``.

    Raises:
        ValueError: A pattern or folder has no shard, or the storage cannot be listed.
    """
    found: dict[str, None] = {}
    for text in inputs:
        for one in expand_braces(text):
            found.update(dict.fromkeys(_matching(one)))
    return tuple(found)


def shards_named(source: str, split: str | None) -> tuple[str, ...]:
    """List the shards of captions to learn from, or to count concepts in.

    Args:
        source: As :func:`find_shards` takes it.
        split: Which part of a folder; ``None`` where it holds one.

    Raises:
        ValueError: A folder holds several splits and none is named, or has no such one; a split is
            named of something else; or as :func:`find_shards`.
    """
    if Path(source).is_dir():
        return tuple(map(str, locate(Path(source), split).shards))
    if split is not None:
        raise ValueError(f"split {split!r} goes with a folder, not with {source}")
    return find_shards([source])


def are_shards(inputs: Sequence[str]) -> bool:
    """Whether all inputs name shards, by their ends; a folder is looked into."""

    def names_shards(text: str) -> bool:
        if is_address(text) or text.lower().endswith(SUFFIX):
            return True
        return Path(text).is_dir() and any(Path(text).glob(f"*{SUFFIX}"))

    return bool(inputs) and all(names_shards(each) for each in inputs)


def is_address(shard: str) -> bool:
    """Whether it is on another machine, or in any other storage than the file system."""
    return URL.match(shard) is not None


def shard_name(shard: str) -> str:
    """The file name alone, which is how samples are called wherever the shard lies."""
    return shard.partition("?")[0].replace("\\", "/").rpartition("/")[2]


def expand_braces(text: str) -> list[str]:
    """``a{1..3}`` as ``a1``, ``a2``, ``a3``, and ``{a,b}`` as ``a``, ``b``; zeros in front stay.

    Raises:
        ValueError: A range ends before it starts.
    """
    choices = [_choices(part, text) for part in _BRACES.findall(text)]
    between = _BRACES.split(text)[::2]
    expanded = []
    for chosen in product(*choices):
        pieces = [piece for pair in zip(between, chosen, strict=False) for piece in pair]
        expanded.append("".join([*pieces, between[-1]]))
    return expanded


def _choices(inside: str, text: str) -> list[str]:
    match = _RANGE.fullmatch(inside)
    if match is None:
        return inside.split(",")
    first, last = match.groups()
    if int(last) < int(first):
        raise ValueError(f"{text}: the range {{{inside}}} ends before it starts")
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def _matching(text: str) -> Iterator[str]:
    if is_address(text):
        yield from _in_storage(text) if "*" in text else [text]
        return
    path = Path(text)
    if path.is_dir():
        names = sorted(str(each) for each in path.glob(f"*{SUFFIX}"))
    elif PATTERN.search(text) and not path.exists():
        root = Path(path.anchor)
        names = sorted(str(each) for each in root.glob(str(path.relative_to(root))))
    else:
        names = [text]
    if not names:
        raise ValueError(f"no shard matches {text}; expected files that end in {SUFFIX}")
    yield from names


def _in_storage(pattern: str) -> list[str]:
    """What a pattern matches in object storage, as addresses."""
    if pattern.startswith(WEB):
        raise ValueError(
            f"{pattern}: a web server cannot be asked for a list; write the numbers in braces, as "
            "https://host/{00000..00331}.tar"
        )
    import fsspec

    try:
        files = fsspec.open_files(pattern)
        names = sorted(each.full_name for each in files)
    except ImportError as error:
        raise ValueError(no_driver(pattern, error)) from error
    except Exception as error:  # every storage has errors of its own
        raise ValueError(
            f"{pattern} cannot be listed ({error}); check address and login"
        ) from error
    if not names:
        raise ValueError(f"no shard matches {pattern}; expected files that end in {SUFFIX}")
    return names


def no_driver(address: str, error: ImportError) -> str:
    """What to install for a kind of storage that is not known yet."""
    return (
        f"{address}: its kind of storage needs another package ({error}); "
        'pip install "regionclip[remote]" brings those for s3:// and gs://'
    )
