"""The page as a server of its own. Needs Gradio."""

import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import fastapi
import gradio as gr
import uvicorn
from gradio import processing_utils
from starlette.responses import PlainTextResponse

from .handlers import Handlers
from .looks import page_head, page_theme
from .page import build_page

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; worker-src 'self' blob:; media-src 'self' blob:; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'self'"
)
"""Which hosts a browser may ask for the page's sake: this one alone, whatever Gradio brings.
Gradio's own HTML component makes functions of text, hence 'unsafe-eval'."""
MAX_UPLOAD = "100mb"
SECONDS_TO_FINISH = 2

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class OwnHostOnly:
    """Tells browsers to ask no other host, with every answer of an application."""

    def __init__(self, application: Callable[[Message, Receive, Send], Awaitable[None]]) -> None:
        """Wrap an ASGI application."""
        self._application = application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer as ASGI asks for it."""
        if "file=http" in scope.get("path", ""):  # Gradio would fetch it and hand it on
            await PlainTextResponse("nothing is fetched here", 403)(scope, receive, send)
            return

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", POLICY.encode())
                message["headers"] = [*message.get("headers", ()), policy]
            await send(message)

        await self._application(scope, receive, send_with_policy)


async def _fetch_nothing(url: str, cache_dir: str) -> str:
    raise gr.Error("this demo fetches nothing from other hosts; upload the image itself")


def application(handlers: Handlers, *, root_path: str | None = None) -> OwnHostOnly:
    """The demo as an ASGI application.

    Args:
        handlers: Answer the page's events.
        root_path: Where a proxy shows it to the world, as in ``/demo``.
    """
    # whoever sends the address of a file instead of a file would have Gradio download it
    processing_utils.async_ssrf_protected_download = _fetch_nothing
    page = build_page(handlers)
    page.has_launched = True  # else Gradio lets a request name any file of this machine
    app = gr.mount_gradio_app(
        fastapi.FastAPI(openapi_url=None),
        page,
        path="/",
        root_path=root_path,
        theme=page_theme(),
        head=page_head(),
        footer_links=[],
        run_history=False,
        max_file_size=MAX_UPLOAD,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        show_error=True,
    )
    return OwnHostOnly(app)


def serve(
    handlers: Handlers, own: socket.socket, *, ready: Callable[[], None], root_path: str | None
) -> None:
    """Serve until interrupted.

    Args:
        handlers: Answer the page's events.
        own: Listens already.
        ready: Called once visitors are answered.
        root_path: See :func:`application`.
    """

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

    config = uvicorn.Config(
        application(handlers, root_path=root_path),
        log_level="warning",
        timeout_graceful_shutdown=SECONDS_TO_FINISH,
    )
    Announcing(config).run(sockets=[own])
