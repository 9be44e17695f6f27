import os
import signal
import socket

import pytest

from regionclip.cli.console import UsageError
from regionclip.cli.listening import ending_well, listening, local_address


def test_a_port_that_is_taken_is_said() -> None:
    with listening("127.0.0.1", 0) as own:
        port = own.getsockname()[1]
        assert port > 0
        with pytest.raises(UsageError, match=rf"--port {port}: cannot .*--port 0 takes a free"):
            listening("127.0.0.1", port)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(UsageError, match=f"--port {port}: must be from 0 to 65535"):
        listening("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("localhost", "http://localhost:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
    ],
)
def test_a_browser_of_this_machine_is_told_an_address_that_it_can_ask_for(
    host: str, expected: str
) -> None:
    assert local_address(host, 80) == expected


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")
def test_every_address_means_those_of_both_protocols() -> None:
    with listening("::", 0) as own:
        port = own.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=10).close()


def test_signals_that_end_a_server_are_no_failure() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with ending_well():
        os.kill(os.getpid(), signal.SIGTERM)
    with ending_well():
        raise KeyboardInterrupt
    assert signal.getsignal(signal.SIGTERM) == before
