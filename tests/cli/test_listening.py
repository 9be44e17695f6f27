import os
import signal

import pytest

from regionclip.cli.console import UsageError
from regionclip.cli.listening import ending_well, listening


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


def test_signals_that_end_a_server_are_no_failure() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with ending_well():
        os.kill(os.getpid(), signal.SIGTERM)
    with ending_well():
        raise KeyboardInterrupt
    assert signal.getsignal(signal.SIGTERM) == before
