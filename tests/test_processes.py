"""The processes that other tests start end with them."""

from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.processes import started_together


def hang(seconds: float) -> None:
    sleep(seconds)


@pytest.mark.slow
def test_a_process_that_hangs_ends_with_the_test_that_started_it(tmp_path: Path) -> None:
    started = []

    def fail() -> None:
        with started_together(hang, 600.0, logs=tmp_path) as own:
            started.extend(own)
            raise KeyError

    before = monotonic()
    with pytest.raises(KeyError):
        fail()
    assert monotonic() - before < 100
    assert [each.is_alive() for each in started] == [False, False]
