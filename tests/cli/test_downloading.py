"""Commands that need weights which are not here yet."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from regionclip import methods
from regionclip.cli import main
from regionclip.loading import proposals as proposal_loading
from regionclip.weights import WeightsEntry
from tests.file_server import FileServer, file_server


@pytest.fixture
def server(model_file: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """Serves the model that is known as ``far``."""
    content = Path(model_file).read_bytes()
    with file_server("far.bin", content) as running:
        entry = WeightsEntry(
            file="far-away.bin",
            title="a model",
            source="https://example.org",
            licence="MIT",
            method="regionclip",
            url=running.url,
            sha256=hashlib.sha256(content).hexdigest(),
        )
        for module in (methods, proposal_loading):
            monkeypatch.setattr(module, "known_weights", lambda: {"far": entry})
        yield running


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a user sees on stderr."""
    seen = io.StringIO()
    console = Console(file=seen, force_terminal=True, width=120)
    monkeypatch.setattr("regionclip.cli.console.errors", console)
    return seen


DETECT = ["detect", "photos/a.jpg", "--model", "far", "--proposals", "grid", "--classes", "cat"]
DETECT += ["--templates", "none", "--device", "cpu", "--no-pictures", "--output", "out"]


def test_detect_shows_a_bar_while_its_model_arrives_and_none_once_it_is_here(
    server: FileServer, terminal: io.StringIO, photos: Path
) -> None:
    assert main(DETECT) == 0
    assert "far-away.bin" in terminal.getvalue()
    terminal.truncate(0)
    assert main(DETECT) == 0
    assert "far-away.bin" not in terminal.getvalue()
    assert server.ranges == [None]


def test_nothing_is_shown_where_nobody_looks(
    server: FileServer, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(DETECT) == 0
    assert capsys.readouterr().err == ""


def test_a_download_that_broke_off_is_an_error_and_goes_on_the_next_time(
    server: FileServer, terminal: io.StringIO, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.breaks_off_after = 1000
    assert main(DETECT) == 2
    assert "broke off after 1000 of" in capsys.readouterr().err
    assert not Path("out").exists()
    server.breaks_off_after = None
    assert main(DETECT) == 0
    assert server.ranges == [None, "bytes=1000-"]


def test_embed_concepts_shows_a_bar_too(
    server: FileServer, terminal: io.StringIO, workspace: Path
) -> None:
    arguments = ["cat, dog", "--model", "far", "--device", "cpu", "--templates", "none"]
    assert main(["embed-concepts", *arguments, "--output", "v.safetensors"]) == 0
    assert "far-away.bin" in terminal.getvalue()
