"""A service under load: many connections, good and bad requests mixed, every answer checked.

Two services run, one that computes requests together and one that does not; they are asked in
turns, so that what else the machine does falls on both alike.
"""

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from statistics import median

import torch
from PIL import Image

import regionclip
from regionclip.data.icons.scenes import draw_scene
from regionclip.structures import Detections

from .measure import Report

NUM_SCENES = 8
BAD_SHARE = 8
"""One in so many requests is bad."""
SIZES = {"one by one": 1, "up to 8 together": 8}
SCORE_TOLERANCE = 1e-3


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


@dataclass(frozen=True)
class Asked:
    """A request, and what has to be answered."""

    content: bytes
    names: tuple[str, ...] | None
    """Of the detections, best first; ``None`` for a bad request."""
    scores: tuple[float, ...] = ()


@dataclass
class Outcome:
    """What came of one round."""

    seconds: float = 0.0
    good: int = 0
    bad: int = 0
    wrong: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)


def run(*, seconds: float, connections: int, device: torch.device) -> Report:
    """Ask both services in turns.

    Args:
        seconds: Each is asked for so long, in three rounds.
        connections: At once.
        device: Of the services.
    """
    requests = [*_good_requests(), *_bad_requests()]
    with ExitStack() as stack:
        services = {
            name: stack.enter_context(_serving(size, device)) for name, size in SIZES.items()
        }
        for service in services.values():
            asyncio.run(_ask_all(service.port, requests, connections, 1.0))
        before = {name: service.megabytes() for name, service in services.items()}
        outcomes: dict[str, list[Outcome]] = {name: [] for name in services}
        for _ in range(3):
            for name, service in services.items():
                asked = _ask_all(service.port, requests, connections, seconds / 3)
                outcomes[name].append(asyncio.run(asked))
        after = {name: service.megabytes() for name, service in services.items()}
    rows = [_row(name, outcomes[name], before[name], after[name]) for name in services]
    alone, together = (_rate(outcomes[name]) for name in services)
    wrong = [each for rounds in outcomes.values() for own in rounds for each in own.wrong]
    grown = max(after[name] - before[name] for name in services)
    return Report(
        name="serving",
        title=f"A service asked over {connections} connections, one in {BAD_SHARE} requests bad",
        rows=rows,
        notes=[
            f"computed together: {together / alone:.2f} times the images per second",
            *wrong[:5],
        ],
        targets={"no lost and no wrong answer": not wrong, "memory grows by < 50 MB": grown < 50},
    )


def _row(name: str, rounds: Sequence[Outcome], before: float, after: float) -> dict[str, str]:
    latencies = sorted(each for own in rounds for each in own.latencies)
    return {
        "computed": name,
        "images/s": f"{_rate(rounds):.1f}",
        "good answers": str(sum(own.good for own in rounds)),
        "refusals": str(sum(own.bad for own in rounds)),
        "lost or wrong": str(sum(len(own.wrong) for own in rounds)),
        "median ms": f"{1000 * median(latencies):.0f}",
        "99 % ms": f"{1000 * latencies[int(0.99 * (len(latencies) - 1))]:.0f}",
        "MB before": f"{before:.0f}",
        "MB after": f"{after:.0f}",
    }


def _rate(rounds: Sequence[Outcome]) -> float:
    return median(own.good / own.seconds for own in rounds)


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


def _good_requests() -> Iterator[Asked]:
    detector = regionclip.load("icons")
    for index in range(NUM_SCENES):
        picture = Image.fromarray(draw_scene(77, index).pixels)
        found = detector.detect(picture, "icons")
        assert isinstance(found, Detections)
        file = BytesIO()
        picture.save(file, "PNG")
        yield Asked(_form(file.getvalue()), found.names, tuple(found.scores.tolist()))


def _bad_requests() -> Iterator[Asked]:
    file = BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    whole = file.getvalue()
    for picture in (b"", b"no image", whole[:40]):
        yield Asked(_form(picture), None)
    yield Asked(_form(whole, min_score="nan"), None)
    yield Asked(_form(whole, vocabulary="unknown"), None)
    yield Asked(_form(whole, classes="a, a"), None)


def _form(picture: bytes, **fields: str) -> bytes:
    """A whole HTTP request."""
    part = '--x\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    parts = "".join(part.format(name, value) for name, value in fields.items()).encode()
    body = b"".join((parts, head, picture, b"\r\n--x--\r\n"))
    lines = (
        "POST /v1/detect HTTP/1.1",
        "Host: localhost",
        "Content-Type: multipart/form-data; boundary=x",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def _ask_all(
    port: int, requests: Sequence[Asked], connections: int, seconds: float
) -> Outcome:
    outcome = Outcome()
    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            group.create_task(_ask(port, requests, number, begun + seconds, outcome))
    outcome.seconds = time.perf_counter() - begun
    return outcome


async def _ask(
    port: int, requests: Sequence[Asked], number: int, until: float, outcome: Outcome
) -> None:
    """One connection: one request after another until the time is over."""
    good = [each for each in requests if each.names is not None]
    bad = [each for each in requests if each.names is None]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        number += 1
        is_bad = number % BAD_SHARE == 0
        asked = bad[number // BAD_SHARE % len(bad)] if is_bad else good[number % len(good)]
        begun = time.perf_counter()
        try:
            writer.write(asked.content)
            await writer.drain()
            status, body = await _answer(reader)
        except (OSError, EOFError) as error:
            outcome.wrong.append(f"lost: {error!r}")
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            continue
        _judge(asked, status, body, outcome)
        if not is_bad:
            outcome.latencies.append(time.perf_counter() - begun)
    writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = re.search(r"content-length: (\d+)", head)
    body = await reader.readexactly(0 if length is None else int(length[1]))
    return int(head.split()[1]), body


def _judge(asked: Asked, status: int, body: bytes, outcome: Outcome) -> None:
    content = json.loads(body)
    if asked.names is None:
        is_right = 400 <= status < 500 and isinstance(content.get("detail"), str)
        outcome.bad += is_right
    else:
        rows = content.get("detections", []) if status == 200 else None
        is_right = rows is not None and _are_equal(rows, asked)
        outcome.good += is_right
    if not is_right:
        outcome.wrong.append(f"{status}: {body[:200].decode()}")


def _are_equal(rows: Sequence[dict[str, object]], asked: Asked) -> bool:
    """Whether detections are those expected; equal scores may change places."""
    if len(rows) != len(asked.scores):
        return False
    found = sorted((str(row["name"]), float(str(row["score"]))) for row in rows)
    expected = sorted(zip(asked.names or (), asked.scores, strict=True))
    return all(
        name == own_name and abs(score - own_score) < SCORE_TOLERANCE
        for (name, score), (own_name, own_score) in zip(found, expected, strict=True)
    )
