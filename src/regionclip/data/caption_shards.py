"""Captioned images in webdataset shards, read in any order without a table of all of them."""

import json
import logging
from collections import Counter, OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from regionclip.structures import LeftOut
from regionclip.weights.download import TIMEOUT_SECONDS
from regionclip.whole_files import replacing

from .captions import (
    DAMAGED_SHARD,
    UNREADABLE_CAPTION,
    CaptionedImage,
    read_captioned,
)
from .datasets import Sample
from .readers.webdataset import Entry, captions_of, entries_of, sound_members
from .shard_cache import FetchError, ShardCache
from .shards import SUFFIX, WEB, is_address, shard_name

TABLES_KEPT = 3
"""Shards whose tables of members a process keeps: the one being read, its neighbours in time."""
STATS = "_stats.json"
"""What img2dataset writes beside a shard, with the number of images in it (``successes``).

Source: rom1504/img2dataset ``img2dataset/logger.py`` (``write_stats``).
"""

_log = logging.getLogger(__name__)


class CaptionShards:
    """Shards as groups of images; see :class:`~regionclip.data.captions.CaptionedImages`.

    How many images a shard has is what the run remembers, else what img2dataset's statistics beside
    the shard say, else what is counted in its table of members. So a resumed run skips shards
    without opening them.

    Attributes:
        shards: Paths and addresses.
        source: What errors call them.
        shard_names: The last parts of their paths.
    """

    def __init__(self, shards: Sequence[str], cache: ShardCache) -> None:
        """Open nothing yet.

        Args:
            shards: From :func:`~regionclip.data.shards.find_shards`; the last parts of their paths
                name samples, and should differ.
            cache: Where those from object storage are kept.

        Raises:
            ValueError: There is no shard, or two have one name.
        """
        self.shard_names = tuple(shard_name(each) for each in shards)
        if not shards:
            raise ValueError("no shards are given")
        name, times = Counter(self.shard_names).most_common(1)[0]
        if times > 1:
            raise ValueError(f"two shards are called {name}, which names their images; rename one")
        self.shards = tuple(shards)
        self.source = shards[0] if len(shards) == 1 else f"{shards[0]} ({len(shards)} shards)"
        self._cache = cache
        self._counts: dict[int, int] = {}
        self._damages: dict[int, str] = {}
        self._coming: dict[int, Future[int]] = {}
        self._tables: OrderedDict[int, Sequence[Entry]] = OrderedDict()
        self._memory: Path | None = None
        self._executor: ThreadPoolExecutor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Threads stay in their process."""
        return self.__dict__ | {"_coming": {}, "_executor": None}

    def __len__(self) -> int:
        return len(self.shards)

    def remember(self, path: Path, *, resume: bool, is_writer: bool) -> None:
        """Keep counts in a file of the run.

        Args:
            path: A json.
            resume: Take over what it says; else it is begun anew.
            is_writer: Whether this process writes it; of several, one should.

        Raises:
            ValueError: It is of other shards, or damaged.
        """
        self._counts, self._damages, self._coming = {}, {}, {}
        if resume and path.exists():
            self._counts = _remembered(path, self.shards)
        elif is_writer:
            path.unlink(missing_ok=True)
        self._memory = path if is_writer else None

    def count(self, group: int) -> int:
        """See :class:`~regionclip.data.captions.CaptionedImages`.

        Raises:
            FetchError: It cannot be counted without the shard, which is out of reach; that is
                never remembered.
        """
        if group not in self._counts:
            coming = self._coming.pop(group, None)
            self._counts[group] = self._counted(group) if coming is None else coming.result()
            if self._memory is not None:
                _write_counts(self._memory, self.shards, self._counts)
        return self._counts[group]

    def expect(self, groups: Sequence[int]) -> None:
        """Fetch and count in a thread."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="regionclip-shards")
        self._coming = {group: each for group, each in self._coming.items() if group in groups}
        for group in groups:
            is_here = group in self._counts and not is_address(self.shards[group])
            if not is_here and group not in self._coming:
                self._coming[group] = self._executor.submit(self._fetched_and_counted, group)

    def damage(self, group: int) -> LeftOut | None:
        """See :class:`~regionclip.data.captions.CaptionedImages`."""
        message = self._damages.get(group)
        return None if message is None else LeftOut(DAMAGED_SHARD, message)

    def num_readable(self, group: int) -> int:
        """See :class:`~regionclip.data.captions.CaptionedImages`.

        Raises:
            FetchError: The shard is out of reach.
        """
        return len(self._table(group))

    def read(self, group: int, row: int) -> CaptionedImage | LeftOut:
        """See :class:`~regionclip.data.captions.CaptionedImages`.

        Raises:
            FetchError: The shard is out of reach.
        """
        entry = self._table(group)[row]
        name = f"{self.shard_names[group]}/{entry.image.name}"
        # fetched again, should another process have needed the room
        shard = self._cache.local(self.shards[group])
        try:
            with shard.open("rb") as archive:
                captions = captions_of(entry.texts, archive)
        except (ValueError, OSError) as error:
            return LeftOut(UNREADABLE_CAPTION, str(error))
        return read_captioned(Sample(name, entry.image, entry.key), captions)

    def _fetched_and_counted(self, group: int) -> int:
        count = self._counts.get(group)
        if count is None:
            count = self._counted(group)
        try:
            self._cache.local(self.shards[group])
        except FetchError as error:  # who reads it tries again, and tells
            _log.debug("%s", error)
        return count

    def _counted(self, group: int) -> int:
        """By the statistics beside the shard, or its table."""
        count = _successes(self.shards[group])
        return len(self._read_table(group)) if count is None else count

    def _table(self, group: int) -> Sequence[Entry]:
        """The shard's images, read anew if other shards were read since."""
        if group not in self._tables:
            self._tables[group] = self._read_table(group)
            if len(self._tables) > TABLES_KEPT:
                self._tables.popitem(last=False)
        self._tables.move_to_end(group)
        return self._tables[group]

    def _read_table(self, group: int) -> Sequence[Entry]:
        shard = self.shards[group]
        members, damage = sound_members(self._cache.local(shard))
        entries = entries_of(members, keep_first=True)
        if damage is not None:
            left = f"its first {len(entries)} images are used" if entries else "it is left out"
            self._damages[group] = f"{damage}; {left}"
        elif not entries:
            self._damages[group] = f"{shard} has no image; it is left out"
        return entries


def _successes(shard: str) -> int | None:
    """Images by img2dataset's statistics; ``None`` if there are none, or no sound ones."""
    address, question, rest = shard.partition("?")
    if not address.endswith(SUFFIX):
        return None
    beside = f"{address.removesuffix(SUFFIX)}{STATS}{question}{rest}"
    try:
        count = json.loads(_small_file(beside))["successes"]
    except Exception as error:  # not there, not reachable, or of another program: it is a shortcut
        _log.debug("%s is not used (%s)", beside, error)
        return None
    return count if isinstance(count, int) and count >= 0 else None


def _small_file(path: str) -> bytes:
    if not is_address(path):
        return Path(path).read_bytes()
    if path.startswith(WEB):
        with urlopen(path, timeout=TIMEOUT_SECONDS) as response:
            return response.read()
    import fsspec

    filesystem, inside = fsspec.url_to_fs(path)
    return filesystem.cat_file(inside)


def _remembered(path: Path, shards: Sequence[str]) -> dict[int, int]:
    try:
        content = json.loads(path.read_bytes())
        digest, counts = content["shards"], content["images"]
        by_name = {str(name): int(count) for name, count in counts.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged; remove it, and shards are counted anew") from error
    if digest != _digest(shards):
        raise ValueError(
            f"{path} is of other shards than the {len(shards)} that are named now, and the run "
            "would go on elsewhere than it stopped; name the same ones, or begin a new run"
        )
    rows = {name: row for row, name in enumerate(shards)}
    return {rows[name]: count for name, count in by_name.items() if name in rows}


def _write_counts(path: Path, shards: Sequence[str], counts: dict[int, int]) -> None:
    content = {
        "shards": _digest(shards),
        "images": {shards[group]: count for group, count in sorted(counts.items())},
    }
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _digest(shards: Sequence[str]) -> str:
    return blake2b("\n".join(shards).encode(), digest_size=16).hexdigest()
