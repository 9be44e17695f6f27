"""A web server on this machine that serves one file, and may misbehave."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class FileServer:
    """What the server does, and what it was asked for."""

    content: bytes
    url: str = ""
    knows_ranges: bool = True
    breaks_off_after: int | None = None
    ranges: list[str | None] = field(default_factory=list)


@contextmanager
def file_server(name: str, content: bytes) -> Iterator[FileServer]:
    """Serve ``content`` as the file ``name`` while the block runs."""
    behaviour = FileServer(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            behaviour.ranges.append(self.headers["Range"])
            if self.path != f"/{name}":
                self.send_error(404)
                return
            start = 0
            if behaviour.knows_ranges and self.headers["Range"]:
                start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(behaviour.content):
                self.send_error(416)
                return
            body = behaviour.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: behaviour.breaks_off_after])

        def log_message(self, format: str, *args: object) -> None:
            """Tests say what is wrong themselves."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    behaviour.url = f"http://127.0.0.1:{httpd.server_port}/{name}"
    thread = Thread(target=httpd.serve_forever)
    thread.start()
    try:
        yield behaviour
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()
