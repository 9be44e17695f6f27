"""Processes that work together, as a launcher starts them, and start in a moment.

They are forks of one server that has imported everything and has done nothing else, where a
launcher's processes take 5 s of the processor each to begin. How launchers start theirs is tested
in ``test_train_transfer.py`` and ``cli/test_evaluate_processes.py``.
"""

import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from signal import SIGKILL
from time import monotonic, sleep

import torch

from regionclip.cli import main

_SERVER = get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["regionclip.train", "regionclip.flows.cora", "regionclip.evaluation.coco"]
)


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as own:
        return own.getsockname()[1]


@contextmanager
def started_together(
    work: Callable[..., int | None], *arguments: object, logs: Path, count: int = 2
) -> Iterator[list[ForkServerProcess]]:
    """Call ``work(*arguments)`` in each of some processes; none of them outlives the block.

    Args:
        work: A function of a module; what it returns is the exit status.
        arguments: The same for all.
        logs: A folder, made if it is not there; what process 1 prints is in its ``1.log``.
        count: How many.
    """
    logs.mkdir(parents=True, exist_ok=True)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    address |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    started = []
    try:
        for rank in map(str, range(count)):
            environment = address | {"RANK": rank, "LOCAL_RANK": rank}
            own = (environment, Path.cwd(), logs.resolve() / f"{rank}.log", work, arguments)
            started.append(_SERVER.Process(target=_work, args=own))
            started[-1].start()
        yield started
    finally:
        # whoever hangs would be waited for when pytest ends, for ever
        for each in started:
            if each.is_alive():
                each.kill()
                each.join()


def _work(
    environment: dict[str, str],
    folder: Path,
    log: Path,
    work: Callable[..., int | None],
    arguments: Sequence[object],
) -> None:
    os.environ.update(environment)
    os.chdir(folder)
    with log.open("wb") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    torch.set_num_threads(1)
    sys.exit(work(*arguments))


def wait_until(is_so: Callable[[], bool], process: ForkServerProcess, log: Path) -> None:
    """Wait for what a process does; if it ends, or does not do it, with what it printed."""
    give_up = monotonic() + 200
    while not is_so():
        said = log.read_text() if log.exists() else ""
        assert process.is_alive(), said
        assert monotonic() < give_up, said
        sleep(0.05)


def run_command(*words: str) -> int:
    """``regionclip`` on the command line, as work for processes."""
    return main(list(words))


def run_together(work: Callable[..., int | None], *arguments: object, logs: Path) -> None:
    """As :func:`started_together`, until all have ended well."""
    with started_together(work, *arguments, logs=logs) as started:
        give_up = monotonic() + 200
        for each in started:
            each.join(timeout=max(give_up - monotonic(), 0))
        said = "".join(log.read_text() for log in sorted(logs.glob("*.log")))
        assert [each.exitcode for each in started] == [0] * len(started), said


def run_until_killed(work: Callable[..., int | None], *arguments: object, logs: Path) -> None:
    """As :func:`started_together`; process 0 kills itself, and the others are stopped."""
    with started_together(work, *arguments, logs=logs) as started:
        started[0].join(timeout=200)
        assert started[0].exitcode == -SIGKILL, (logs / "0.log").read_text()
        for each in started[1:]:
            each.terminate()
            each.join(timeout=120)
            assert each.exitcode not in (0, None)
