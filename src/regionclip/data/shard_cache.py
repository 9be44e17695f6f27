"""Shards from object storage, each fetched whole into a folder of bounded size."""

import errno
import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from urllib.error import HTTPError

from filelock import FileLock

from regionclip.weights.download import receive
from regionclip.weights.registry import default_cache_folder

from .shards import WEB, is_address, no_driver, shard_name

WORTH_WAITING = (408, 429, 500, 502, 503, 504)
"""Answers of a web server that is busy (RFC 9110, sec. 15)."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
"""What a full disk or an exhausted share of it answers."""
DEFAULT_GIGABYTES = 50.0
"""Most that is kept, if nobody says otherwise; 1e9 bytes each."""
LATER = "run the same command again when it can be reached"

_log = logging.getLogger(__name__)


class FetchError(ValueError):
    """A shard cannot be had; the message names it, the reason and the way out.

    It ends a run: which shards can be reached differs from time to time and from one process to
    another, so a run that left them out would not be one sequence of samples.
    """


@dataclass(frozen=True, slots=True)
class ShardCache:
    """Local files of shards, for any number of processes on one machine.

    A shard is fetched under a lock, gets its name when it is whole, and is deleted again when it
    is the one used longest ago and there is no room. Local shards are used where they are.

    Attributes:
        folder: For copies; made when one is fetched.
        max_bytes: Of all copies. Those in use stay whatever their size, so give room for at least
            four shards: those being read and those that are fetched ahead.
        spared_seconds: A copy that was asked for so lately is in use, and stays.
        waits: Seconds before a fetch that failed is tried again, one after the other.
        sleep: Waits.
    """

    folder: Path
    max_bytes: int
    spared_seconds: float = 60.0
    waits: tuple[float, ...] = (1.0, 5.0, 25.0)
    sleep: Callable[[float], None] = time.sleep

    def local(self, shard: str) -> Path:
        """The shard's file, fetched if need be; it counts as used just now.

        Raises:
            FetchError: It cannot be fetched.
        """
        if not is_address(shard):
            return Path(shard)
        path = self._path(shard)
        if _touch(path):
            return path
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            if _touch(path):  # another process was first
                return path
            part = path.with_name(f".{path.name}.part")
            self._fetch(shard, part)
            part.replace(path)
        self._make_room(path)
        return path

    def _path(self, shard: str) -> Path:
        digest = blake2b(shard.encode(), digest_size=6).hexdigest()
        return self.folder / f"{digest}-{shard_name(shard)}"

    def _fetch(self, shard: str, part: Path) -> None:
        for wait in (*self.waits, None):
            try:
                return (_from_web if shard.startswith(WEB) else _from_storage)(shard, part)
            except FileNotFoundError as error:
                raise FetchError(
                    f"{shard}: there is no such file; check the address, and {LATER}"
                ) from error
            except HTTPError as error:
                if wait is None or error.code not in WORTH_WAITING:
                    raise FetchError(
                        f"{shard} is answered with '{error.code} {error.reason}'; check the "
                        f"address, and {LATER}"
                    ) from error
                self.sleep(wait)
            except ImportError as error:
                raise FetchError(no_driver(shard, error)) from error
            except Exception as error:  # every storage has errors of its own
                if isinstance(error, OSError) and error.errno in NO_ROOM:
                    raise FetchError(
                        f"{shard} cannot be kept in {self.folder} ({error}); make room there and "
                        "run the same command again"
                    ) from error
                if wait is None:
                    raise FetchError(
                        f"{shard} cannot be fetched ({error}); check address, login and network, "
                        f"and {LATER}"
                    ) from error
                _log.info("%s could not be fetched (%s); trying again", shard, error)
                self.sleep(wait)

    def _make_room(self, newest: Path) -> None:
        with FileLock(self.folder / ".room.lock"):
            spared_ns = time.time_ns() - int(self.spared_seconds * 1e9)
            copies = []
            for path in self.folder.glob("*"):
                if path == newest or path.name.startswith("."):
                    continue
                state = path.stat()
                copies.append((state.st_mtime_ns, state.st_size, path))
            total = newest.stat().st_size + sum(size for _, size, _ in copies)
            for used_ns, size, path in sorted(copies):
                if total <= self.max_bytes or used_ns > spared_ns:
                    return
                path.unlink()
                total -= size


def _touch(path: Path) -> bool:
    """Whether the file is there; if so, it is the one used last."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _from_web(address: str, part: Path) -> None:
    receive(address, part)


def _from_storage(address: str, part: Path) -> None:
    import fsspec

    filesystem, path = fsspec.url_to_fs(address)
    with filesystem.open(path, "rb") as remote, part.open("wb") as file:
        shutil.copyfileobj(remote, file, 1 << 20)
    size = filesystem.info(path).get("size")
    received = part.stat().st_size
    if size is not None and received != size:
        raise OSError(f"it broke off after {received} of {size} bytes")


def shared_cache(
    folder: str | Path | None = None, *, gigabytes: float = DEFAULT_GIGABYTES
) -> ShardCache:
    """The cache that commands share.

    Args:
        folder: For copies; ``None`` is one in the home folder.
        gigabytes: Most that is kept in it, 1e9 bytes each.
    """
    own = default_cache_folder() / "shards" if folder is None else Path(folder)
    return ShardCache(own, int(gigabytes * 1e9))
