"""``regionclip serve`` as a process, and what it refuses to start with."""

import inspect
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from unittest.mock import patch

import pytest

from regionclip.cli import main
from regionclip.cli.listening import local_address
from regionclip.cli.serve import GRACE_BEYOND_TIMEOUT, Serve, announce
from regionclip.server.service import CLOSE_SECONDS
from regionclip.server.settings import ServiceSettings
from tests.processes import free_port, started_together, wait_until
from tests.server.pictures import scene

BOXES = json.dumps([[0, 0, 100, 100]] * 300)


@contextmanager
def serving(*options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process and its port."""
    command = (sys.executable, "-m", "regionclip", "serve", "--model", "icons", "--port", "0")
    with subprocess.Popen((*command, *options), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"serving icons at http://127.0.0.1:(\d+)", line)
            assert found, line
            yield process, int(found[1])
        finally:
            process.kill()


def asked(port: int, method: str, path: str, body: bytes = b"", kind: str = "") -> tuple[int, str]:
    headers = {"Content-Type": kind} if kind else {}
    with closing(HTTPConnection("127.0.0.1", port, timeout=100)) as connection:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def form(picture: bytes, **fields: str) -> bytes:
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    return b"".join((*parts, head, picture, b"\r\n--x--\r\n"))


def wait_for(port: int, text: str) -> None:
    until = time.monotonic() + 60
    while text not in asked(port, "GET", "/metrics")[1]:
        assert time.monotonic() < until, asked(port, "GET", "/metrics")[1]
        time.sleep(0.02)


@pytest.mark.slow
def test_all_that_was_taken_is_answered_before_the_end() -> None:
    body = form(scene(), boxes=BOXES, classes="star, heart")
    with serving() as (process, port), ThreadPoolExecutor(8) as threads:
        assert asked(port, "GET", "/ready")[0] == 200
        kind = "multipart/form-data; boundary=x"
        answers = [threads.submit(asked, port, "POST", "/v1/regions", body, kind) for _ in range(8)]
        wait_for(port, "regionclip_requests_in_flight 8.0")
        process.send_signal(signal.SIGTERM)
        for answer in answers:
            status, text = answer.result(100)
            assert status == 200
            assert len(json.loads(text)["regions"]) == 300
        assert process.wait(60) == 0
        assert process.stdout is not None
        assert process.stdout.read() == "stopped; all that was taken is answered\n"
        with pytest.raises(ConnectionRefusedError):
            asked(port, "GET", "/ready")


def serve_without_end(port: int, folder: Path) -> int:
    """Work for a process: serve a model that is read for as long as the process lives."""

    def read(_: Serve) -> None:
        (folder / "loading").touch()
        threading.Event().wait()

    with patch.object(Serve, "open_model", read):
        return main(["serve", "--model", "icons", "--port", str(port)])


@pytest.mark.slow
def test_a_process_lives_while_its_model_is_read_and_ends_well(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "0.log"
    with started_together(serve_without_end, port, tmp_path, logs=tmp_path, count=1) as (server,):
        wait_until((tmp_path / "loading").exists, server, log)
        assert asked(port, "GET", "/health") == (200, '{"status":"alive"}')
        for method, path in (("GET", "/ready"), ("POST", "/v1/texts")):
            status, text = asked(port, method, path)
            assert (status, "the model is being read" in text) == (503, True)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGTERM)
        server.join(60)
        assert server.exitcode == 0
    assert log.read_text() == "stopped before it was ready\n"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--port", "70000"), "must be from 0 to 65535"),
        (("--max-batch", "0"), "--max-batch must be at least 1"),
        (("--max-prompts", "0"), "--max-prompts must be at least 1"),
        (("--max-decoding", "0"), "max_decoding must be at least 1"),
        (("--max-body", "much"), "no size of memory"),
        (("--timeout", "-1"), "timeout_seconds must be positive"),
        (("--batch-delay", "-1"), "max_delay_seconds must be at least 0"),
        (("--host", "nowhere.invalid"), "cannot be listened on"),
        (("--api-keys", "absent.txt"), "absent.txt"),
        (("--classes", "cat, cat"), "cat"),
        (("--model", "absent.pth", "--max-names", "1", "--classes", "a, b"), "max_names is 1"),
        (("--model", "absent.pth"), "absent.pth"),
        (("--vocabulary-memory", "none"), "no size of memory"),
        (("--allow-hosts", "a.test, https://b.test"), "nothing can be fetched from"),
    ],
)
def test_what_cannot_be_served_is_refused(
    options: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--model", "icons", *options]) == 2
    assert sentence in capsys.readouterr().err.replace("\n", " ")


def test_options_reach_the_service() -> None:
    settings = Serve(model="icons", max_prompts=7, max_decoding=3).settings()
    assert (settings.limits.max_prompts, settings.max_decoding) == (7, 3)
    assert Serve(model="icons").settings() == ServiceSettings(model_name="icons")


def test_the_end_comes_as_soon_as_is_written() -> None:
    assert 1 + 1 + CLOSE_SECONDS < GRACE_BEYOND_TIMEOUT
    page = Path(__file__).parents[2] / "docs" / "serving.md"
    for text, times in ((inspect.getsource(Serve), 2), (page.read_text(), 1)):
        assert " ".join(text.split()).count(f"{GRACE_BEYOND_TIMEOUT} seconds") == times
    seconds = math.ceil(ServiceSettings().limits.timeout_seconds) + GRACE_BEYOND_TIMEOUT
    assert f"which is {seconds} s by default" in page.read_text()


@pytest.mark.parametrize(
    ("model", "host", "line"),
    [
        ("icons", "::1", "serving icons at http://[::1]:8000\n"),
        ("runs/[bold]/m.pth", "fe80::1", "serving runs/[bold]/m.pth at http://[fe80::1]:8000\n"),
        ("m" * 200, "::", f"serving {'m' * 200} at http://[::1]:8000\n"),
    ],
)
def test_models_and_addresses_are_announced_as_they_are(
    model: str, host: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    announce(model, local_address(host, 8000))
    assert capsys.readouterr().out == line


def test_a_port_in_use_and_a_file_without_keys_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve", "--model", "icons", "--port", str(port)]) == 2
    assert "--port 0 takes a free one" in capsys.readouterr().err.replace("\n", " ")
    (tmp_path / "keys").write_text("\n \n")
    assert main(["serve", "--model", "icons", "--api-keys", str(tmp_path / "keys")]) == 2
    assert "holds no key" in capsys.readouterr().err.replace("\n", " ")


def test_an_empty_variable_of_keys_lets_nobody_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REGIONCLIP_API_KEYS", "")
    assert main(["serve", "--model", "icons"]) == 2
    assert "REGIONCLIP_API_KEYS holds no key" in capsys.readouterr().err
