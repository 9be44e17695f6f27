"""What every request passes: the count of those in flight, the key, the clock and the scale."""

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from regionclip.server.metrics import Metrics
from regionclip.server.problems import RequestError, TooLargeError
from regionclip.server.settings import Limits

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = ("/health", "/ready", "/metrics", "/openapi.json")
"""What needs no key and is not counted as work, wherever the service is mounted."""
MOST_CHARACTERS = 1000
"""Of a sentence, which may cite what the request brought."""
PIECE_BYTES = 64 * 2**10
"""Of an answer that is handed on at once, as many as uvicorn lets wait (``HIGH_WATER_LIMIT`` of its
``flow_control``): servers wait for slow readers before each piece, never after the last, so that of
a longer one nearly all would lie in memory, counted by nobody."""

_log = logging.getLogger(__name__)


class Gate:
    """An ASGI middleware; answers with one sentence what it does not let in."""

    def __init__(
        self, app: App, *, limits: Limits, metrics: Metrics, api_keys: Sequence[str]
    ) -> None:
        """Guard ``app``."""
        self._app = app
        self._limits = limits
        self._metrics = metrics
        self._keys = [key.encode() for key in api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        answer = _Answer(send)
        try:
            if path_of(scope) in OPEN:
                await self._app(scope, receive, answer)
            else:
                await self._guarded(scope, receive, answer)
        finally:
            # the route's pattern, not the path, which anybody can make up
            route = getattr(scope.get("route"), "path", "other")
            status = str(answer.status or "none")
            self._metrics.requests.labels(_known_method(scope["method"]), route, status).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - begun)

    async def _guarded(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        headers = Headers(scope=scope)
        body = _Body(receive, self._most_bytes(headers))
        if self._metrics.num_in_flight >= self._limits.max_in_flight:
            await _refuse(scope, body, answer, self._busy())
            return
        self._metrics.num_in_flight += 1
        try:
            self._check(headers, body)
            async with asyncio.timeout(self._limits.timeout_seconds):
                await self._app(scope, body, answer)
        except RequestError as error:
            await _refuse(scope, body, answer, error)
        except TimeoutError:
            await _refuse(scope, body, answer, self._too_slow(body))
        except Exception:
            _log.exception("%s %s failed", scope["method"], scope["path"])
            await _refuse(
                scope, body, answer, RequestError(500, "the service failed; tell its owner")
            )
        finally:
            self._metrics.num_in_flight -= 1

    def _most_bytes(self, headers: Headers) -> int:
        is_form = headers.get("content-type", "").lower().startswith("multipart/form-data")
        most = self._limits.max_body_bytes
        return most if is_form else min(most, self._limits.max_json_bytes)

    def _check(self, headers: Headers, body: "_Body") -> None:
        """Refuse before a byte of the body is read."""
        if self._keys:
            given = headers.get("x-api-key") or headers.get("authorization", "")
            if given[:7].lower() == "bearer ":
                given = given[7:]
            # headers are read as latin-1; a byte that is a space there may be half a letter
            given = given.encode("latin-1").strip()
            if not any(hmac.compare_digest(given, key) for key in self._keys):
                raise RequestError(
                    401, "this service needs a key: send it as 'X-API-Key' or 'Authorization'"
                )
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > body.max_bytes:
            raise TooLargeError(body.max_bytes)

    def _busy(self) -> RequestError:
        return RequestError(
            429,
            f"{self._metrics.num_in_flight} requests are being worked on; ask again in a moment",
        )

    def _too_slow(self, body: "_Body") -> RequestError:
        seconds = f"{self._limits.timeout_seconds:g} s"
        if not body.is_whole:
            return RequestError(408, f"the request did not arrive within {seconds}; send it again")
        return RequestError(503, f"the answer took longer than {seconds}; ask again in a moment")


class _Body:
    """Hands on a request's body as long as it is not too long."""

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self._receive = receive
        self.max_bytes = max_bytes
        self._num_bytes = 0
        self.is_whole = False

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._num_bytes += len(message.get("body", b""))
            if self._num_bytes > self.max_bytes:
                raise TooLargeError(self.max_bytes)
            self.is_whole = not message.get("more_body", False)
        return message


class _Answer:
    """Hands on an answer in pieces and remembers its status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        body, start = message.get("body", b""), 0
        while len(body) - start > PIECE_BYTES:
            piece = body[start : start + PIECE_BYTES]
            await self._send({"type": message["type"], "body": piece, "more_body": True})
            start += PIECE_BYTES
        await self._send({**message, "body": body[start:]} if start else message)


def path_of(scope: Scope) -> str:
    """What is asked for, wherever the service is mounted."""
    return scope["path"].removeprefix(scope.get("root_path", ""))


def error_response(error: HTTPException) -> JSONResponse:
    """An error as JSON: ``{"detail": sentence}``."""
    # half a character that a request brought cannot be sent back, and a long name need not be
    detail = str(error.detail).encode("utf-8", "replace").decode()
    if len(detail) > MOST_CHARACTERS:
        detail = f"{detail[:MOST_CHARACTERS]}..."
    return JSONResponse({"detail": detail}, error.status_code, error.headers)


async def _refuse(scope: Scope, body: _Body, answer: _Answer, error: HTTPException) -> None:
    if answer.status is None:  # nothing can be taken back of an answer that is on its way
        await error_response(error)(scope, body, answer)


def _known_method(method: str) -> str:
    return method if method in ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT") else "other"
