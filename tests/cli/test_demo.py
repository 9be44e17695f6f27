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
        session = handlers.sessions.begin("me")
        folders.append(session.folder)
        assert handlers.models.names == (model_file,)
        assert handlers.models.proposals == ("the model's own", "grid")
        assert len(session.pictures) == 8
        assert session.look().picture.path.exists()
        assert root_path == "/demo"
        before = len(opened)
        ready()
        assert before == 0 or len(opened) == before

    monkeypatch.setattr(serving, "serve", serve)
    monkeypatch.setattr(command, "open_browser", lambda url: opened.append(url) or "see there")
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # put back afterwards
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "")
    arguments = ["demo", "--model", model_file, "--port", "0", "--root-path", "/demo"]
    assert main([*arguments, "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert opened[0].startswith("http://127.0.0.1:")
    assert f"the demo is at {opened[0]} (Ctrl+C stops it)" in shown
    assert shown.endswith("see there\n")
    assert "other machines" not in shown
    assert not folders[0].exists()  # nothing of a visitor stays

    assert main([*arguments, "--host", "0.0.0.0", "--no-browser"]) == 0
    shown = capsys.readouterr().out
    assert "the demo is at http://127.0.0.1:" in shown
    assert f"as in http://{socket.gethostname()}:" in shown
    assert len(opened) == 1


def test_without_gradio_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda _: None)
    assert main(["demo"]) == 2
    assert "pip install 'regionclip[demo]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "nothing.pth"], "nothing.pth"),
        (["--model", "icons", "nothing.pth"], "nothing.pth"),
        (["--proposals", "yolo"], "unknown proposals 'yolo'"),
        (["--text-weights", "words.pth"], "words.pth"),
    ],
)
def test_what_cannot_be_read_ends_the_command_before_the_page_is_served(
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    pytest.importorskip("gradio", reason="needs the extra [demo]")
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "")
    assert main(["demo", *arguments, "--port", "0"]) == 2
    assert said in capsys.readouterr().err
