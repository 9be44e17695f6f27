"""Captions in webdataset shards: tar archives of ``<key>.jpg`` beside ``<key>.json``."""

import json
import logging
import tarfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from regionclip.data.datasets import Dataset, Member, Sample
from regionclip.data.sources import IMAGE_SUFFIXES

LARGEST_TEXT = 1 << 24
"""Bytes of a json or text with captions; what is larger is something else."""
AGAIN = "copy or download it again"

_log = logging.getLogger(__name__)


def read_webdataset(
    shards: Sequence[str | Path], *, unreadable: Callable[[str], None] | None = None
) -> Dataset:
    """Read uncompressed shards: their tables of members, and the captions; no image.

    A member's key is its path up to the first dot of its file name, as webdataset has it. Beside
    the image of a key, ``.json`` gives captions (``captions``: a list, or ``caption``: one), else
    ``.txt`` gives one. An image without either has none. In captions that are not in UTF-8, U+FFFD
    stands for what cannot be read, and a warning is logged with their number.

    Args:
        shards: Archives; their order is that of the data set.
        unreadable: Told why the captions of an image cannot be read, which then has none; by
            default that is an error.

    Returns:
        Samples named ``shard.tar/key.jpg``; ``image_id`` is the key, or ``shard.tar/key`` if two
        shards share one.

    Raises:
        ValueError: A shard is no sound archive, or captions in it cannot be read.
    """
    images: list[tuple[Member, str, tuple[str, ...]]] = []
    for shard in map(Path, shards):
        images += _images_of(shard, unreadable)
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
    members, damage = sound_members(shard)
    if damage is not None:
        raise ValueError(damage)
    return members


def sound_members(shard: Path) -> tuple[list[Member], str | None]:
    """The regular files of an archive, in its order, up to where it is damaged.

    Returns:
        Files that are there to their last byte, and what is wrong with the archive, if anything.
    """
    members: list[Member] = []
    try:
        size = shard.stat().st_size
        with tarfile.open(shard, "r:") as archive:
            for each in archive:
                if each.isreg() and not each.issparse():
                    if each.size < 0 or each.offset_data + each.size > size:
                        return members, f"{shard} is cut off in {each.name}; {AGAIN}"
                    members.append(Member(shard, each.name, each.offset_data, each.size))
            end = archive.offset
        with shard.open("rb") as file:
            file.seek(end)
            # the archive ends in blocks of zeros; what else is there is a header that was damaged
            if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
                place = f"behind {members[-1].name}" if members else "at its start"
                return members, f"{shard} is damaged {place}; {AGAIN}"
    except (OSError, tarfile.TarError, ValueError, EOFError) as error:
        if members:
            return members, f"{shard} is cut off behind {members[-1].name}; {AGAIN}"
        return members, f"{shard} cannot be read as an uncompressed tar archive: {error}"
    return members, None


def _images_of(
    shard: Path, unreadable: Callable[[str], None] | None
) -> list[tuple[Member, str, tuple[str, ...]]]:
    images: list[tuple[Member, str, tuple[str, ...]]] = []
    entries = entries_of(members_of(shard))
    with shard.open("rb") as archive:
        for each in entries:
            try:
                captions = captions_of(each.texts, archive)
            except ValueError as error:
                if unreadable is None:
                    raise
                unreadable(str(error))
                captions = ()
            images.append((each.image, each.key, captions))
    num_damaged = sum("\ufffd" in text for _, _, captions in images for text in captions)
    if num_damaged:
        _log.warning("%s: %d captions are not in UTF-8; they are kept", shard, num_damaged)
    return images


@dataclass(frozen=True, slots=True)
class Entry:
    """One image of a shard and the files that may hold its captions.

    Attributes:
        key: What they have in common.
        image: Its file.
        texts: ``.json`` before ``.txt``.
    """

    key: str
    image: Member
    texts: tuple[Member, ...]


def entries_of(members: Sequence[Member], *, keep_first: bool = False) -> list[Entry]:
    """The images of a shard, in its order.

    Args:
        members: Of one shard.
        keep_first: Of several images of a key, take the first.

    Raises:
        ValueError: A key has two images, and ``keep_first`` is not set.
    """
    images: dict[str, Member] = {}
    texts: dict[str, list[Member]] = defaultdict(list)
    for member in members:
        key, suffix = _split(member.name)
        if suffix in IMAGE_SUFFIXES:
            if key in images and not keep_first:
                raise ValueError(f"{member.archive} has two images of the key {key!r}")
            images.setdefault(key, member)
        elif suffix in (".json", ".txt"):
            texts[key].append(member)
    return [
        Entry(key, image, tuple(sorted(texts.get(key, ()), key=str)))
        for key, image in images.items()
    ]


def _split(name: str) -> tuple[str, str]:
    path = PurePosixPath(name)
    stem, dot, suffix = path.name.partition(".")
    return str(path.with_name(stem)) if stem else name, (dot + suffix).lower()


def captions_of(texts: Sequence[Member], archive: BinaryIO) -> tuple[str, ...]:
    """Captions of the first text that has any, without blank ones.

    U+FFFD stands for bytes that are no UTF-8.

    Args:
        texts: As :class:`Entry` has them.
        archive: The shard that they are in, open.

    Raises:
        ValueError: A text is no json, or something else than captions.
    """
    for member in texts:
        if member.size > LARGEST_TEXT:
            raise ValueError(f"{member} has {member.size} bytes, which is no caption")
        archive.seek(member.offset)
        content = archive.read(member.size).decode("utf-8-sig", "replace")
        is_json = member.name.lower().endswith(".json")
        try:
            captions = json.loads(content) if is_json else content
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
