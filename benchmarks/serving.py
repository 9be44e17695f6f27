"""A service under load: many connections, good and bad requests mixed, every answer checked.

Two services run, one that computes requests together and one that does not; they are asked in
turns, so that what else the machine does falls on both alike. At the end each is told to stop while
it is being asked.
"""

import asyncio
import json
import math
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from statistics import median

import torch

import regionclip

from .measure import Report
from .serving_requests import BAD_SHARE, Asked, bad_requests, first_request, good_requests

ALONE = "one by one"
SIZES = {ALONE: 1, "up to 8 together": 8}
NUM_ROUNDS = 4
FLAT_SHARE = 0.05
"""Memory is flat if it grows by no more in the second half; what is used for the first time, and
what the allocator keeps, shows before."""
WARM_UP_SECONDS = 1.0
SECONDS_BEFORE_THE_END = 3.0
"""Of asking, before a service is told to stop."""


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Service:
    """A running process."""

    process: subprocess.Popen[str]
    port: int

    def megabytes(self) -> float:
        """Its memory; not a number where there is no ``/proc``."""
        status = Path(f"/proc/{self.process.pid}/status")
        if not status.exists():
            return float("nan")
        found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text())
        return float("nan") if found is None else int(found[1]) * 1024 / 1e6


@dataclass
class Outcome:
    """What came of one round."""

    seconds: float = 0.0
    told_to_stop: float = math.inf
    """When, in seconds of :func:`time.perf_counter`: what was sent before has to be answered."""
    good: int = 0
    images: int = 0
    """Of good answers; some are about texts alone."""
    bad: int = 0
    turned_away: int = 0
    """Sent after that, and not answered."""
    wrong: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)


def run(*, seconds: float, connections: int, device: torch.device) -> Report:
    """Ask both services in turns.

    Args:
        seconds: Each is asked for so long, in :data:`NUM_ROUNDS` rounds.
        connections: At once.
        device: Of the services.
    """
    detector = regionclip.load("icons")
    requests = [*good_requests(detector), *bad_requests()]
    with ExitStack() as stack:
        services = {
            name: stack.enter_context(_serving(size, device)) for name, size in SIZES.items()
        }
        first = first_request(detector)
        begun = Outcome()
        for service in services.values():
            asyncio.run(_ask_once(service.port, first, begun))
            asyncio.run(_ask_all(service.port, requests, connections, WARM_UP_SECONDS))
        megabytes = {name: [service.megabytes()] for name, service in services.items()}
        outcomes: dict[str, list[Outcome]] = {name: [] for name in services}
        for _ in range(NUM_ROUNDS):
            for name, service in services.items():
                asked = _ask_all(service.port, requests, connections, seconds / NUM_ROUNDS)
                outcomes[name].append(asyncio.run(asked))
                megabytes[name].append(service.megabytes())
        ends = {name: _end(service, requests, connections) for name, service in services.items()}
    alone = _rate(outcomes[ALONE])
    rows = [
        {"computed": name, "ratio": f"{_rate(outcomes[name]) / alone:.2f}"}
        | _cells(outcomes[name], megabytes[name])
        | _end_cells(*ends[name])
        for name in services
    ]
    wrong = [each for rounds in outcomes.values() for own in rounds for each in own.wrong]
    wrong += begun.wrong
    at_the_end = [each for outcome, _ in ends.values() for each in outcome.wrong]
    return Report(
        name="serving",
        title=f"A service asked over {connections} connections, one in {BAD_SHARE} requests bad",
        rows=rows,
        notes=[
            "ratio: of images per second",
            *(f"memory, {name}: {_flatness(own)}" for name, own in megabytes.items()),
            *wrong[:5],
            *at_the_end[:5],
        ],
        targets={
            "no lost and no wrong answer": not wrong,
            **_memory_target(list(megabytes.values())),
            "SIGTERM under load loses nothing that was sent before, and the exit code is 0": (
                not at_the_end and all(code == 0 for _, code in ends.values())
            ),
        },
    )


def _memory_target(megabytes: Sequence[Sequence[float]]) -> dict[str, bool]:
    """Nothing where nobody knows the memory: neither reached nor missed."""
    if any(map(math.isnan, chain(*megabytes))):
        return {}
    sentence = f"memory grows by < {FLAT_SHARE:.0%} in the second half"
    return {sentence: all(map(_is_flat, megabytes))}


def _is_flat(megabytes: Sequence[float]) -> bool:
    return megabytes[-1] < (1 + FLAT_SHARE) * megabytes[len(megabytes) // 2]


def _flatness(megabytes: Sequence[float]) -> str:
    if any(map(math.isnan, megabytes)):
        return "unknown, for there is no /proc"
    start, middle, end = megabytes[0], megabytes[len(megabytes) // 2], megabytes[-1]
    word = "flat" if _is_flat(megabytes) else "NOT flat"
    return f"{start:.0f} MB at the start, {middle:.0f} in the middle, {end:.0f} at the end: {word}"


def _end(
    service: Service, requests: Sequence[Asked], connections: int
) -> tuple[Outcome, int | None]:
    """Tell a service to stop while it is asked; what came of it, and the exit code."""

    async def ask() -> Outcome:
        outcome = Outcome()
        asking = asyncio.create_task(_ask_all(service.port, requests, connections, 60.0, outcome))
        await asyncio.sleep(SECONDS_BEFORE_THE_END)
        outcome.told_to_stop = time.perf_counter()
        service.process.send_signal(signal.SIGTERM)
        return await asking

    outcome = asyncio.run(ask())
    try:
        return outcome, service.process.wait(90)
    except subprocess.TimeoutExpired:
        service.process.kill()
        return outcome, None


def _end_cells(outcome: Outcome, code: int | None) -> dict[str, str]:
    return {
        "around SIGTERM: answered": str(outcome.good + outcome.bad),
        "lost or wrong": str(len(outcome.wrong)),
        "sent later, turned away": str(outcome.turned_away),
        "exit code": str(code),
    }


def _cells(rounds: Sequence[Outcome], megabytes: Sequence[float]) -> dict[str, str]:
    latencies = sorted(each for own in rounds for each in own.latencies)
    return {
        "images/s": f"{_rate(rounds):.1f}",
        "good answers": str(sum(own.good for own in rounds)),
        "refusals": str(sum(own.bad for own in rounds)),
        "lost, wrong": str(sum(len(own.wrong) for own in rounds)),
        "median ms": f"{1000 * median(latencies):.0f}",
        "99 % ms": f"{1000 * latencies[int(0.99 * (len(latencies) - 1))]:.0f}",
        "MB": ", ".join(f"{each:.0f}" for each in megabytes),
    }


def _rate(rounds: Sequence[Outcome]) -> float:
    return median(own.images / own.seconds for own in rounds)


@contextmanager
def _serving(max_batch: int, device: torch.device) -> Iterator[Service]:
    options = ("--model", "icons", "--classes", "icons", "--port", "0", "--device", str(device))
    command = (sys.executable, "-m", "regionclip", "serve", *options, "--max-batch", str(max_batch))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = "" if process.stdout is None else process.stdout.readline()
            found = re.search(r":(\d+)\s*$", line)
            if found is None:
                raise RuntimeError(f"the service did not start: {line!r}")
            yield Service(process, int(found[1]))
        finally:
            process.terminate()


async def _ask_all(
    port: int,
    requests: Sequence[Asked],
    connections: int,
    seconds: float,
    outcome: Outcome | None = None,
) -> Outcome:
    outcome = Outcome() if outcome is None else outcome
    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            # each begins elsewhere: soon all kinds are asked, and no two bad ones at once
            start = number * (BAD_SHARE + 1)
            group.create_task(_ask(port, requests, start, begun + seconds, outcome))
    outcome.seconds = time.perf_counter() - begun
    return outcome


async def _ask_once(port: int, asked: Asked, outcome: Outcome) -> None:
    connection = await asyncio.open_connection("127.0.0.1", port)
    status, body, _ = await _answered(connection, asked.content)
    _judge(asked, status, body, outcome)
    await _close(connection)


async def _ask(
    port: int, requests: Sequence[Asked], number: int, until: float, outcome: Outcome
) -> None:
    """One connection: one request after another until the time is over."""
    good = [each for each in requests if each.is_right is not None]
    bad = [each for each in requests if each.is_right is None]
    connection: Connection | None = None
    while time.perf_counter() < until:
        number += 1
        is_bad = number % BAD_SHARE == 0
        asked = bad[number // BAD_SHARE % len(bad)] if is_bad else good[number % len(good)]
        begun = time.perf_counter()
        try:
            connection = connection or await asyncio.open_connection("127.0.0.1", port)
            status, body, is_last = await _answered(connection, asked.content)
        except (OSError, EOFError) as error:
            await _close(connection)
            connection = None
            if begun > outcome.told_to_stop:
                outcome.turned_away += 1
                return
            outcome.wrong.append(f"lost: {error!r}")
            continue
        _judge(asked, status, body, outcome)
        if not is_bad:
            outcome.latencies.append(time.perf_counter() - begun)
        if is_last or asked.is_cut:
            await _close(connection)
            connection = None
    await _close(connection)


async def _close(connection: Connection | None) -> None:
    if connection is not None:
        connection[1].close()
        with suppress(OSError):  # a service that has ended breaks it off
            await connection[1].wait_closed()


async def _answered(connection: Connection, content: bytes) -> tuple[int, bytes, bool]:
    """Status and body, and whether the connection ends with them."""
    reader, writer = connection
    writer.write(content)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = re.search(r"content-length: (\d+)", head)
    body = await reader.readexactly(0 if length is None else int(length[1]))
    return int(head.split()[1]), body, "connection: close" in head


def _judge(asked: Asked, status: int, body: bytes, outcome: Outcome) -> None:
    content = json.loads(body)
    if asked.is_right is None:
        is_right = 400 <= status < 500 and isinstance(content.get("detail"), str)
        outcome.bad += is_right
    else:
        is_right = status == asked.status and asked.is_right(content)
        outcome.good += is_right
        outcome.images += asked.num_images * is_right
    if not is_right:
        outcome.wrong.append(f"{status}: {body[:200].decode()}")
