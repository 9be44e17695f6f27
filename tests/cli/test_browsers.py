import threading
import webbrowser
from types import SimpleNamespace
from typing import Any

import pytest

from regionclip.cli.browsers import open_browser

URL = "http://127.0.0.1:7860"


def test_a_browser_that_does_not_return_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, is_closed = threading.Event(), threading.Event()
    shown: list[str] = []

    def show(url: str) -> None:
        shown.append(url)
        asked.set()
        is_closed.wait(60)

    browser = SimpleNamespace(name="/usr/bin/firefox", open=show)
    monkeypatch.setattr(webbrowser, "get", lambda: browser)
    try:
        assert open_browser(URL) == ""
        assert asked.wait(60)
        assert shown == [URL]
    finally:
        is_closed.set()


@pytest.mark.parametrize("name", ["w3m", "/usr/bin/lynx", "www-browser"])
def test_a_browser_that_would_take_the_terminal_is_left_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webbrowser, "get", lambda: webbrowser.GenericBrowser(name))
    said = open_browser(URL)
    assert "would take this terminal; open the address" in said
    assert name.rpartition("/")[2] in said


def test_no_browser_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Any:
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(webbrowser, "get", none)
    assert open_browser(URL) == "no browser was found here; open the address in one"
