"""What the commands share that serve something until they are stopped."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from regionclip.cli.console import UsageError

ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
"""Every address of this machine, which no browser could ask for, and what it asks for instead."""


def listening(host: str, port: int) -> socket.socket:
    """A socket on a port that is free, told before anything slow begins.

    Args:
        host: Name or address of this machine.
        port: 0 takes any that is free.

    Raises:
        UsageError: It is taken, or the host is not this machine's.
    """
    if not 0 <= port <= 65535:
        raise UsageError(f"--port {port}: must be from 0 to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # "::" is every address, those of IPv4 included, wherever the system can do both at once
        is_dual = host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server((host, port), family=family, dualstack_ipv6=is_dual)
    except OSError as error:
        raise UsageError(
            f"--host {host} --port {port}: cannot be listened on ({error.strerror or error}); "
            "--port 0 takes a free one"
        ) from error


def local_address(host: str, port: int) -> str:
    """Where a browser of this machine finds what listens.

    Args:
        host: As it was given to :func:`listening`, or as the socket tells it.
        port: That is listened on.
    """
    shown = f"[{host}]" if ":" in host else host
    return f"http://{ANYWHERE.get(host, shown)}:{port}"


@contextmanager
def ending_well() -> Iterator[None]:
    """Uvicorn finishes, and then raises the signal that ended it once more: that is no failure."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
