"""``regionclip serve``: a model over HTTP."""

import math
import os
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from regionclip.cli.console import UsageError, console
from regionclip.cli.devices import parse_bytes
from regionclip.cli.listening import ending_well, listening, local_address
from regionclip.cli.options import check_counts, optional, value
from regionclip.cli.running import LoadingCommand

if TYPE_CHECKING:
    from regionclip.server.settings import ServiceSettings
    from regionclip.server.starting import StartingApp

KEY_VARIABLE = "REGIONCLIP_API_KEYS"
KEEP_ALIVE_SECONDS = 75
"""That a connection stays open without a request."""
GRACE_BEYOND_TIMEOUT = 10
"""Seconds beyond ``--timeout`` by which the process has ended after SIGTERM.

Uvicorn waits at most 2 longer than ``--timeout``; then come
:data:`~regionclip.server.service.CLOSE_SECONDS`, and some to spare.
"""


@dataclass(frozen=True, kw_only=True)
class Serve(LoadingCommand):
    """Serve a model over HTTP: detect, encode regions and texts, keep vocabularies.

    Needs the extra [serve]. GET /openapi.json describes it, /health, /ready and /metrics
    (Prometheus) watch over it. While the model is read, /health is answered, and all else with 503.
    Requests of one image size with the same names are computed together. SIGTERM ends it when all
    that was taken is answered, at most --timeout and 10 seconds later.

    For example:

        regionclip serve --model icons --classes icons

        curl -F image=@photo.jpg -F classes="cat, remote control" localhost:8000/v1/detect
    """

    classes: Annotated[str | None, optional("NAMES|FILE|LIST")] = None
    """Names for requests that give none: 'cat, remote control', a file with one name per line, or a
    built-in list such as coco80. By default the classes that the model carries."""
    host: Annotated[str, value("ADDRESS")] = "127.0.0.1"
    """Where to listen; 0.0.0.0 lets other machines in."""
    port: Annotated[int, value("N")] = 8000
    """0 takes a free one."""
    api_keys: Annotated[Path | None, optional("FILE")] = None
    """One key per line, one of which must come with each request as X-API-Key or as Authorization:
    Bearer. By default those in the environment's REGIONCLIP_API_KEYS, with commas; without any,
    everybody is let in."""
    allow_hosts: Annotated[str, value("HOSTS")] = ""
    """Hosts, with commas, that requests may have images fetched from (image_url): 'example.com,
    images.example.com:8443'. By default none, and nothing is fetched."""
    max_body: Annotated[str, value("SIZE")] = "20MiB"
    """Most bytes of a request."""
    max_pixels: Annotated[int, value("N")] = 50_000_000
    """Most pixels of an image; --max-decoding of them are decoded at a time, each in up to 16 bytes
    of memory per pixel."""
    max_decoding: Annotated[int | None, optional("N")] = None
    """Images decoded at once. By default one for each processor core that the process may use; a
    container that gets less time than it has cores needs fewer."""
    max_boxes: Annotated[int, value("N")] = 1000
    """Most regions of a request."""
    max_names: Annotated[int, value("N")] = 2000
    """Most class names or texts of a request."""
    max_prompts: Annotated[int, value("N")] = 200_000
    """Most class names times prompt templates of one vocabulary, and of all that wait to be
    encoded."""
    max_in_flight: Annotated[int, value("N")] = 128
    """Requests worked on at once; more are sent away with 429."""
    vocabulary_memory: Annotated[str, value("SIZE")] = "512MiB"
    """Most bytes of vocabularies that are kept; more are refused with 409 until one is deleted."""
    timeout: Annotated[float, value("SECONDS")] = 60.0
    """From the end of a request's headers to its answer. After SIGTERM, what was taken has as long:
    whoever kills the process then (Kubernetes: terminationGracePeriodSeconds) has to wait 10
    seconds longer than this."""
    max_batch: Annotated[int, value("N")] = 8
    """Most images computed at once; 1 computes each alone."""
    batch_delay: Annotated[float, value("MS")] = 3.0
    """Milliseconds that an image waits for others while nothing else is to be done."""

    def run(self) -> int:
        """Load the model, then serve until told to stop."""
        try:
            import uvicorn

            from regionclip.server.starting import StartingApp
        except ImportError as error:
            raise UsageError(
                "serve needs FastAPI and uvicorn: pip install 'regionclip[serve]'"
            ) from error
        self._check()
        settings = self.settings()
        with closing(listening(self.host, self.port)) as own:
            shown = local_address(*own.getsockname()[:2])

            def tell(app: StartingApp) -> None:
                if app.error is not None:
                    server.should_exit = True
                if app.is_ready:
                    announce(self.model, shown)

            app = StartingApp(lambda: self.open_model()[0], settings, on_change=tell)
            config = uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                # a request that is taken now is answered within its own time, if only with 503
                timeout_graceful_shutdown=math.ceil(self.timeout) + 1,
                # a load balancer must be the one that ends an idle connection (nginx does after
                # 60 s): else it may send a request into the end
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                server_header=False,
                ws="none",
            )
            server = uvicorn.Server(config)
            with ending_well():
                server.run(sockets=[own])
        return _end(app)

    def settings(self) -> "ServiceSettings":
        """Limits, keys and batching.

        Raises:
            ValueError: One is out of range.
        """
        from regionclip.cli.classes import parse_names
        from regionclip.server.settings import Batching, Limits, ServiceSettings

        limits = Limits(
            max_body_bytes=parse_bytes(self.max_body),
            max_pixels=self.max_pixels,
            max_boxes=self.max_boxes,
            max_names=self.max_names,
            max_prompts=self.max_prompts,
            max_vocabulary_bytes=parse_bytes(self.vocabulary_memory),
            max_in_flight=self.max_in_flight,
            timeout_seconds=self.timeout,
        )
        return ServiceSettings(
            model_name=self.model,
            classes=None if self.classes is None else parse_names(self.classes),
            api_keys=_api_keys(self.api_keys),
            url_hosts=tuple(host.strip() for host in self.allow_hosts.split(",") if host.strip()),
            max_decoding=self.max_decoding,
            limits=limits,
            batching=Batching(max_size=self.max_batch, max_delay_seconds=self.batch_delay / 1000),
        )

    def _check(self) -> None:
        counts = ("max_pixels", "max_boxes", "max_names", "max_prompts")
        check_counts(self, *counts, "max_in_flight", "max_batch")


def announce(model: str, address: str) -> None:
    """Say what is served where, in one line as it is: both may hold square brackets."""
    console.print(f"serving {model} at {address}", soft_wrap=True, markup=False)


def _end(app: "StartingApp") -> int:
    """Say how it ended; the exit code."""
    from regionclip.server.problems import RequestError

    if isinstance(app.error, RequestError):
        raise UsageError(f"--classes: {app.error.detail}") from app.error
    if app.error is not None:
        raise app.error
    if app.is_over:
        console.print("stopped; all that was taken is answered")
        return 0
    if app.is_ready:
        console.print("stopped; something took too long and was broken off")
    else:
        console.print("stopped before it was ready")
    # a thread is at work and cannot be broken off: the interpreter's end would wait for it, or take
    # the libraries away under it
    sys.stdout.flush()
    os._exit(1 if app.is_ready else 0)


def _api_keys(path: Path | None) -> tuple[str, ...]:
    """Keys from a file or from the environment, which other users of the machine cannot list."""
    if path is None:
        if KEY_VARIABLE not in os.environ:
            return ()
        text, source = os.environ[KEY_VARIABLE].replace(",", "\n"), KEY_VARIABLE
    else:
        text, source = path.read_text(encoding="utf-8-sig"), str(path)
    keys = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not keys:
        raise UsageError(f"{source} holds no key; write one per line, or leave it out")
    return keys
