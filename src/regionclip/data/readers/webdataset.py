"""Captions in webdataset shards: tar archives of ``<key>.jpg`` beside ``<key>.json``."""

import json
import tarfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from regionclip.data.datasets import Dataset, Member, Sample
from regionclip.data.sources import IMAGE_SUFFIXES

LARGEST_TEXT = 1 << 24
"""Bytes of a json or text with captions; what is larger is something else."""


def read_webdataset(shards: Sequence[str | Path]) -> Dataset:
    """Read uncompressed shards: their tables of members, and the captions; no image.

    A member's key is its path up to the first dot of its file name, as webdataset has it. Beside
    the image of a key, ``.json`` gives captions (``captions``: a list, or ``caption``: one), else
    ``.txt`` gives one. An image without either has none.

    Args:
        shards: Archives; their order is that of the data set.

    Returns:
        Samples named ``shard.tar/key.jpg``; ``image_id`` is the key, or ``shard.tar/key`` if two
        shards share one.

    Raises:
        ValueError: A shard is no sound archive, or captions in it cannot be read.
    """
    images: list[tuple[Member, str, tuple[str, ...]]] = []
    for shard in map(Path, shards):
        images += _images_of(shard)
    if not images:
        raise ValueError(f"{_source(shards)} has no image with one of {', '.join(IMAGE_SUFFIXES)}")
    is_unique = max(Counter(key for _, key, _ in images).values()) == 1
    samples = tuple(
        Sample(
            name=f"{member.archive.name}/{member.name}",
            image=member,
            image_id=key if is_unique else f"{member.archive.name}/{key}",
            captions=captions,
        )
        for member, key, captions in images
    )
    return Dataset(_source(shards), (), samples)


def is_tar(path: Path) -> bool:
    """Whether a file is an uncompressed tar archive, by its first header."""
    with path.open("rb") as file:
        return file.read(512)[257:262] == b"ustar"


def members_of(shard: Path) -> list[Member]:
    """The regular files of an archive, in its order.

    Raises:
        ValueError: It is no uncompressed tar archive, or it is cut off.
    """
    try:
        size = shard.stat().st_size
        with tarfile.open(shard, "r:") as archive:
            members = [
                Member(shard, each.name, each.offset_data, each.size)
                for each in archive
                if each.isreg() and not each.issparse()
            ]
    except (OSError, tarfile.TarError, ValueError, EOFError) as error:
        raise ValueError(
            f"{shard} cannot be read as an uncompressed tar archive: {error}"
        ) from error
    for each in members:
        if each.size < 0 or each.offset + each.size > size:
            raise ValueError(f"{shard} is cut off in {each.name}; copy or download it again")
    return members


def _images_of(shard: Path) -> list[tuple[Member, str, tuple[str, ...]]]:
    images: dict[str, Member] = {}
    texts: dict[str, list[Member]] = defaultdict(list)
    for member in members_of(shard):
        key, suffix = _split(member.name)
        if suffix in IMAGE_SUFFIXES:
            if key in images:
                raise ValueError(f"{shard} has two images of the key {key!r}")
            images[key] = member
        elif suffix in (".json", ".txt"):
            texts[key].append(member)
    with shard.open("rb") as archive:
        return [
            (image, key, _captions_of(sorted(texts.get(key, ()), key=str), archive))
            for key, image in images.items()
        ]


def _split(name: str) -> tuple[str, str]:
    path = PurePosixPath(name)
    stem, dot, suffix = path.name.partition(".")
    return str(path.with_name(stem)) if stem else name, (dot + suffix).lower()


def _captions_of(texts: Sequence[Member], archive: BinaryIO) -> tuple[str, ...]:
    """Captions of the first text that has any, ``.json`` before ``.txt``."""
    for member in texts:
        if member.size > LARGEST_TEXT:
            raise ValueError(f"{member} has {member.size} bytes, which is no caption")
        archive.seek(member.offset)
        content = archive.read(member.size)
        is_json = member.name.lower().endswith(".json")
        try:
            captions = json.loads(content) if is_json else content.decode("utf-8-sig")
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{member} cannot be read: {error}") from error
        if isinstance(captions, dict):
            captions = captions.get("captions") or captions.get("caption") or []
        captions = [captions] if isinstance(captions, str) else captions
        if not isinstance(captions, list) or not all(isinstance(each, str) for each in captions):
            raise ValueError(f'{member} has no captions; expected {{"captions": ["a dog", ...]}}')
        if found := tuple(each.strip() for each in captions if each.strip()):
            return found
    return ()


def _source(shards: Sequence[str | Path]) -> str:
    first = Path(shards[0]) if shards else Path()
    return str(first) if len(shards) == 1 else f"{first.parent} ({len(shards)} shards)"
