"""A service whose model is still being read: it lives, and says that it is not ready."""

import asyncio
from collections.abc import Callable

from anyio import to_thread
from starlette.responses import JSONResponse

from regionclip.detect import Detector
from regionclip.server.app import app_around
from regionclip.server.gate import App, Receive, Scope, Send, error_response, path_of
from regionclip.server.problems import RequestError
from regionclip.server.schemas import HealthAnswer
from regionclip.server.service import Service
from regionclip.server.settings import ServiceSettings


class StartingApp:
    """An ASGI application that answers from the first moment, with 503 until it is ready.

    Attributes:
        is_ready: Whether the model is read, its names are encoded and requests are taken.
        is_over: After the end: whether all that was taken is answered and no thread is at work.
        error: Why it cannot become ready.
    """

    def __init__(
        self,
        load: Callable[[], Detector],
        settings: ServiceSettings,
        *,
        on_change: Callable[["StartingApp"], None],
    ) -> None:
        """Begin when the server does.

        Args:
            load: Reads the model; called in a thread of its own.
            settings: Limits, keys and batching.
            on_change: Told when it is ready, or cannot become ready.
        """
        self.is_ready = False
        self.is_over = True
        self.error: Exception | None = None
        self._load = load
        self._settings = settings
        self._on_change = on_change
        self._app: App = _not_yet
        self._service: Service | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; or start, and stop when the server does."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        await receive()
        starting = asyncio.create_task(self._start())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        starting.cancel()
        await asyncio.wait([starting])
        if self._service is not None:
            self.is_over = await self._service.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        try:
            self.is_over = False
            # the end does not wait for it; see is_over
            detector = await to_thread.run_sync(self._load, abandon_on_cancel=True)
            self._service = Service(detector, self._settings)
            await self._service.start()
        except Exception as error:
            self.error = error
            self.is_over = self._service is None
        else:
            self._app = app_around(self._service)
            self.is_ready = True
        self._on_change(self)


async def _not_yet(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    if path_of(scope) == "/health":
        answer = JSONResponse(HealthAnswer(status="alive").model_dump())
    else:
        answer = error_response(
            RequestError(503, "the model is being read; ask again in a moment, or another service")
        )
    await answer(scope, receive, send)
