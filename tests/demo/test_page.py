"""The page's layout and its server; what they look like is seen in ``test_browser.py``."""

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from regionclip.demo.handlers import Handlers
from regionclip.demo.models import Models
from regionclip.demo.sessions import Sessions

gradio = pytest.importorskip("gradio", reason='needs Gradio: pip install "regionclip[demo]"')
OUTSIDE = re.compile(r"(?:src|href)=[\"']?(?:https?:)?//|url\([\"']?(?:https?:)?//|@import")


@pytest.fixture(scope="module")
def handlers(tmp_path_factory: pytest.TempPathFactory) -> Handlers:
    return Handlers(Models(), Sessions(tmp_path_factory.mktemp("visitors"), []))


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    own = asyncio.new_event_loop()
    yield own
    own.close()


def running(loop: asyncio.AbstractEventLoop, make: Callable[[], Any]) -> Any:
    """What ``make`` returns; where no loop runs, Gradio makes some, and leaves them open."""

    async def made() -> Any:
        return make()

    return loop.run_until_complete(made())


@pytest.fixture(scope="module")
def page_parts() -> Any:
    from regionclip.demo import looks, page, wiring

    return SimpleNamespace(
        page_head=looks.page_head,
        page_theme=looks.page_theme,
        build_page=page.build_page,
        MODEL=wiring.MODEL,
    )


@pytest.fixture(scope="module")
def page(handlers: Handlers, page_parts: Any, loop: asyncio.AbstractEventLoop) -> Any:
    return running(loop, lambda: page_parts.build_page(handlers))


@pytest.fixture(scope="module")
def served(handlers: Handlers, loop: asyncio.AbstractEventLoop) -> Any:
    from regionclip.demo.serving import application

    return running(loop, lambda: application(handlers))


def test_tabs_and_fonts(page: Any, page_parts: Any) -> None:
    tabs = [each.label for each in page.blocks.values() if isinstance(each, gradio.Tab)]
    assert tabs == ["Detect", "Name a region", "Find alike", "Heat map"]
    assert not page.analytics_enabled
    theme = page_parts.page_theme()
    assert theme._get_theme_css().count("https://") == 0
    assert theme._stylesheets == []


def test_script_and_style_ask_no_other_host(page_parts: Any) -> None:
    head = page_parts.page_head()
    assert "regionclipDemo" in head
    assert OUTSIDE.search(head) is None
    assert OUTSIDE.search('<script src="//cdn.example.org/a.js">') is not None


def test_model_events_wait_in_one_line_and_none_is_an_open_interface(
    page: Any, page_parts: Any
) -> None:
    events = list(page.fns.values())
    waiting = [each for each in events if each.concurrency_id == page_parts.MODEL]
    assert len(waiting) == 11
    assert {each.concurrency_limit for each in waiting} == {1}
    assert {each.api_visibility for each in events} == {"private"}


def answer_to(path: str, served: Any, loop: asyncio.AbstractEventLoop) -> list[Any]:
    """What the demo sends for a path."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
        "root_path": "",
    }
    loop.run_until_complete(served(scope, receive, send))
    return sent


def test_every_answer_tells_the_browser_to_ask_no_other_host(
    served: Any, loop: asyncio.AbstractEventLoop
) -> None:
    from regionclip.demo.serving import POLICY

    sent = answer_to("/theme.css", served, loop)
    headers = dict(sent[0]["headers"])
    assert sent[0]["status"] == 200
    assert headers[b"content-security-policy"].decode() == POLICY
    assert "http" not in POLICY


@pytest.mark.usefixtures("served")
def test_the_address_of_a_file_is_not_fetched(loop: asyncio.AbstractEventLoop) -> None:
    """Gradio would download what a crafted request names."""
    block = gradio.Textbox()
    named = {"path": "https://example.org/a.png", "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(gradio.Error, match="fetches nothing from other hosts"):
        loop.run_until_complete(
            gradio.processing_utils.async_move_files_to_cache(
                json.loads(json.dumps(named)), block, check_in_upload_folder=True
            )
        )


@pytest.mark.parametrize("route", ["file=", "file/"])
def test_no_page_of_another_host_is_handed_on(
    route: str, served: Any, loop: asyncio.AbstractEventLoop
) -> None:
    sent = answer_to(f"/gradio_api/{route}https://example.org/a.png", served, loop)
    assert sent[0]["status"] == 403


def test_a_request_cannot_name_a_file_of_this_machine(served: Any, tmp_path: Path) -> None:
    """Gradio hands files to anybody who names them until it is told that the page is there."""
    from gradio.context import LocalContext

    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (mounted,) = (each.app for each in served._application.routes if hasattr(each, "app"))
    token = LocalContext.blocks.set(mounted.get_blocks())
    try:
        with pytest.raises(ValueError, match="not uploaded"):
            gradio.processing_utils._check_allowed(secret, check_in_upload_folder=True)
    finally:
        LocalContext.blocks.reset(token)


def test_numbers_and_files_reach_the_handlers_as_they_were_sent(page: Any) -> None:
    """Gradio would raise for an emptied number, with words that only its authors understand."""
    sliders = [each for each in page.blocks.values() if isinstance(each, gradio.Slider)]
    assert len(sliders) == 6
    assert [each.preprocess(None) for each in sliders] == [None] * 6
    assert [each.preprocess(1e9) for each in sliders] == [1e9] * 6


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"box": [1, 2, 3, 4], "place": 2}, (2, [1, 2, 3, 4])),
        ({"box": [1, 2, 3, 4]}, (-1, [1, 2, 3, 4])),  # on no picture
        ({"value": 0.5}, None),
        (None, None),
    ],
)
def test_a_box_comes_with_the_picture_that_it_was_drawn_on(data: Any, expected: Any) -> None:
    from regionclip.demo.wiring import drawn_box

    drawn = drawn_box(gradio.EventData(None, data))
    assert (None if drawn is None else (drawn.place, drawn.corners)) == expected


def test_files_to_take_home_stay_as_long_as_they_exist(tmp_path: Path) -> None:
    """Gradio deletes by age what it is not told to keep."""
    from regionclip.demo.wiring import keep_files

    button = gradio.DownloadButton("x", render=False)
    first, second = tmp_path / "first", tmp_path / "second"
    first.touch()
    second.touch()
    keep_files(button, first)
    first.unlink()
    keep_files(button, second)
    assert button.keep_in_cache == {str(second)}


def test_files_are_called_by_their_names_where_that_tells_them_apart(tmp_path: Path) -> None:
    from regionclip.demo.bar import short_names

    paths = [tmp_path / "a" / "best.pth", tmp_path / "b" / "best.pth", tmp_path / "other.pth"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    first, second, other = map(str, paths)
    assert short_names(["openai:ViT-B/16", first, second, other]) == [
        ("openai:ViT-B/16", "openai:ViT-B/16"),
        (first, first),
        (second, second),
        ("other.pth", other),
    ]
