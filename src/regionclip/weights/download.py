"""Files over the network: resumed where they broke off, checked, and in place only when whole."""

import hashlib
import logging
from collections.abc import Callable
from functools import partial
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

Progress = Callable[[str, int, int | None], None]
"""Called with the file's name, the bytes of it on disk so far, and their final number, if the
server tells it."""

TIMEOUT_SECONDS = 30.0
"""A server that is silent for so long is taken to be gone."""
_CHUNK_BYTES = 1 << 20

_log = logging.getLogger(__name__)


class DownloadError(ConnectionError):
    """A file could not be fetched; the message says from where, why, and what to do instead."""


def download_file(
    url: str, path: str | Path, *, sha256: str, progress: Progress | None = None
) -> Path:
    """Fetch a file, going on where an earlier attempt broke off.

    What has arrived is kept beside ``path`` as ``<name>.part``; it gets its name when it is whole
    and its hash is right.

    Args:
        url: ``http``, ``https`` or ``file``.
        path: Where to; its folder is made, and a file there is replaced.
        sha256: Hexadecimal digest of the whole file, or its first characters if only these are
            published.
        progress: Called as data arrives.

    Returns:
        ``path``.

    Raises:
        DownloadError: The server is out of reach, answers with an error, stops early, or delivers
            another file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        receive(url, part, None if progress is None else partial(progress, path.name))
    except HTTPError as error:
        raise DownloadError(
            f"{url} is answered with '{error.code} {error.reason}'; the file may have moved: get "
            f"it elsewhere and save it as {path}"
        ) from error
    except (URLError, HTTPException, OSError) as error:
        if isinstance(error, DownloadError):
            raise
        reason = error.reason if isinstance(error, URLError) else error
        raise DownloadError(
            f"{url} is out of reach ({reason}); without a network, fetch it on another machine "
            f"and save it as {path}"
        ) from error
    _check_hash(url, part, sha256)
    part.replace(path)
    return path


def receive(
    url: str, part: Path, progress: Callable[[int, int | None], None] | None = None
) -> None:
    """Append to ``part`` until it is as long as the server says.

    Args:
        url: ``http``, ``https`` or ``file``.
        part: What came of an earlier attempt, or no file.
        progress: Called with the bytes that are there and their final number, if that is known.

    Raises:
        OSError: The server is out of reach, answers with an error, or stops early.
    """
    offset = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "regionclip"} | ({"Range": f"bytes={offset}-"} if offset else {})
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        if error.code != 416 or not offset:
            raise
        # nothing lies beyond what we have: whole already, or another file by now; the hash tells
        error.close()
        return
    with response:
        if response.status != 206 and offset:
            _log.info("%s cannot resume; starting over", url)
            offset = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else offset + int(length)
        received = offset
        with part.open("ab" if offset else "wb") as file:
            while chunk := response.read(_CHUNK_BYTES):
                file.write(chunk)
                received += len(chunk)
                if progress is not None:
                    progress(received, total)
    if total is not None and received < total:
        raise DownloadError(
            f"{url} broke off after {received} of {total} bytes; run the same again to go on "
            "from there"
        )


def _check_hash(url: str, part: Path, sha256: str) -> None:
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(sha256.lower()):
        part.unlink()
        raise DownloadError(
            f"{url} delivered a file with SHA-256 {found[:16]}..., expected {sha256[:16]}...; it "
            "was deleted. Run the same again; if that does not help, the file has changed"
        )
