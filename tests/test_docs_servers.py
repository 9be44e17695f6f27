"""The servers of the documentation start, answer what pages ask, and stop."""

import os
import re
import shlex
import signal
import subprocess
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.documented import write_world
from tests.processes import free_port, run_command, started_together, wait_until
from tests.test_docs_commands import STAND_INS, commands

SERVE = ["regionclip", "serve", "--model", "icons", "--classes", "icons"]
PICTURES = ("scene.png", "photo.jpg")

pytestmark = [pytest.mark.docs, pytest.mark.slow, pytest.mark.timeout(300)]


def of_pages(program: str, *pages: str) -> list[list[str]]:
    """Every command that begins so, once."""
    lines = [shlex.join(words) for page in pages for words in commands(page)]
    return [shlex.split(each) for each in dict.fromkeys(lines) if each.startswith(program)]


def said(log: Path) -> str:
    return log.read_text() if log.exists() else ""


def status(port: int, path: str) -> int:
    try:
        with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            connection.request("GET", path)
            return connection.getresponse().status
    except ConnectionError:
        return 0


def test_the_service_answers_what_pages_ask_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in PICTURES:
        Image.fromarray(np.zeros((96, 128, 3), np.uint8)).save(name)
    assert of_pages("regionclip serve", "serving", "README") == [SERVE]
    asked = of_pages("curl", "serving", "README")
    assert len(asked) == 5
    port, logs = free_port(), tmp_path / "logs"
    words = (*SERVE[1:], "--port", str(port))
    with started_together(run_command, *words, logs=logs, count=1) as (server,):
        wait_until(lambda: status(port, "/ready") == 200, server, logs / "0.log")
        for words in asked:
            own = [word.replace("localhost:8000", f"127.0.0.1:{port}") for word in words]
            answer = subprocess.run([*own, "--silent", "--fail-with-body"], capture_output=True)
            assert answer.returncode == 0, (words, answer.stdout)
        os.kill(server.pid or 0, signal.SIGTERM)
        server.join(60)
        assert server.exitcode == 0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documented") / "world"
    folder.mkdir()
    write_world(folder)
    return folder


@pytest.mark.parametrize("words", of_pages("regionclip demo", "demo", "README"), ids=shlex.join)
def test_a_demo_shows_its_page_until_it_is_stopped(
    words: list[str], world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    _, *own = (STAND_INS.get(word, word) if word != "icons" else word for word in words)
    if "--port" in own:
        place = own.index("--port")
        del own[place : place + 2]
    own += [] if "--no-browser" in own else ["--no-browser"]
    log = tmp_path / "0.log"
    with started_together(run_command, *own, "--port", "0", logs=tmp_path, count=1) as (server,):
        wait_until(lambda: "the demo is at" in said(log), server, log)
        port = int(re.findall(r"the demo is at http://127.0.0.1:(\d+)", said(log))[0])
        assert status(port, "/") == 200
        os.kill(server.pid or 0, signal.SIGINT)
        server.join(60)
        assert server.exitcode == 0
