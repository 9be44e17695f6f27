"""What the commands share that serve something until they are stopped."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from regionclip.cli.console import UsageError


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
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UsageError(
            f"--host {host} --port {port}: cannot be listened on ({error.strerror or error}); "
            "--port 0 takes a free one"
        ) from error


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
