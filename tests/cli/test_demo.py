import socket
from pathlib import Path
from typing import Any

import pytest

from regionclip.cli import demo as command
from regionclip.cli import main


def test_the_page_is_announced_and_opened_once_it_is_served(
    workspace: Path,
    model_file: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serving = pytest.importorskip("regionclip.demo.serving", reason="needs the extra [demo]")
    opened: list[str] = []
    folders: list[Path] = []

    def serve(handlers: Any, own: socket.socket, *, ready: Any, root_path: str | None) -> None:
        session = handlers.sessions.of("me")
        folders.append(session.folder)
        assert handlers.models.names == (model_file,)
        assert handlers.models.proposals == ("the model's own", "grid")
        assert len(session.pictures) == 8
        assert session.picture.path.exists()
        assert root_path == "/demo"
        before = len(opened)
        ready()
        assert before == 0 or len(opened) == before

    monkeypatch.setattr(serving, "serve", serve)
    monkeypatch.setattr(serving, "open_browser", opened.append)
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # put back afterwards
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "")
    arguments = ["demo", "--model", model_file, "--port", "0", "--root-path", "/demo"]
    assert main([*arguments, "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert opened[0].startswith("http://127.0.0.1:")
    assert f"the demo is at {opened[0]} (Ctrl+C stops it)" in shown
    assert not folders[0].exists()  # nothing of a visitor stays

    assert main([*arguments, "--host", "0.0.0.0", "--no-browser"]) == 0
    assert "http://127.0.0.1:" in capsys.readouterr().out
    assert len(opened) == 1


def test_without_gradio_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda _: None)
    assert main(["demo"]) == 2
    assert "pip install 'regionclip[demo]'" in capsys.readouterr().err


def test_a_model_that_cannot_be_read_ends_the_command(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gradio", reason="needs the extra [demo]")
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "")
    assert main(["demo", "--model", "nothing.pth", "--port", "0"]) == 2
    assert "nothing.pth" in capsys.readouterr().err
