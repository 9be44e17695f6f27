"""Images by their address, from hosts that the operator allows, and from nowhere else."""

import time
from collections.abc import Collection
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from regionclip.server.problems import RequestError, TooLargeError

USUAL_PORTS = {"http": 80, "https": 443}
_CHUNK_BYTES = 1 << 16


class _NoRedirects(HTTPRedirectHandler):
    """An allowed host cannot send us on to another one."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def fetch(url: str, *, hosts: Collection[str], max_bytes: int, timeout_seconds: float) -> bytes:
    """Fetch a file.

    Args:
        url: ``http`` or ``https``.
        hosts: ``name`` or ``name:port``, IPv6 in brackets; the usual port where none is named.
        max_bytes: Longest answer.
        timeout_seconds: For all of it.

    Raises:
        RequestError: The host is not allowed, is out of reach, answers with an error or a
            redirection, takes too long or sends too much.
    """
    _check_host(url, hosts)
    opener = build_opener(_NoRedirects, ProxyHandler({}))
    request = Request(url, headers={"User-Agent": "regionclip"})
    deadline = time.monotonic() + timeout_seconds
    try:
        with opener.open(request, timeout=timeout_seconds) as response:
            content = bytearray()
            while chunk := response.read1(_CHUNK_BYTES):
                content += chunk
                if len(content) > max_bytes:
                    raise TooLargeError(max_bytes)
                if time.monotonic() > deadline:
                    raise TimeoutError("it is too slow")
            return bytes(content)
    except HTTPError as error:
        raise RequestError(
            400, f"image_url: {url} is answered with '{error.code} {error.reason}'; no image there"
        ) from error
    except (URLError, HTTPException, OSError, UnicodeError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise RequestError(
            400, f"image_url: {url} is out of reach ({reason}); send the image"
        ) from error


def _check_host(url: str, hosts: Collection[str]) -> None:
    if not hosts:
        raise RequestError(400, "image_url: this service fetches nothing; send the image itself")
    try:
        parts = urlsplit(url)
        port = parts.port or USUAL_PORTS.get(parts.scheme)
    except ValueError as error:
        raise RequestError(400, f"image_url: {url!r} is no URL ({error})") from error
    if parts.scheme not in USUAL_PORTS or not parts.hostname or "@" in parts.netloc:
        raise RequestError(400, f"image_url: {url!r} must be http://host/... or https://host/...")
    host = parts.hostname.lower()
    host = f"[{host}]" if ":" in host else host  # as in the address
    names = {f"{host}:{port}"} | ({host} if port == USUAL_PORTS[parts.scheme] else set())
    if names.isdisjoint(each.lower() for each in hosts):
        raise RequestError(
            400, f"image_url: images are not fetched from {parts.netloc}; send the image itself"
        )
