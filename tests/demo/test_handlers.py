import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from regionclip.data.icons import CLASS_NAMES, draw_scene
from regionclip.demo import handlers as handling
from regionclip.demo import viewing
from regionclip.demo.handlers import Handlers, Setting, Shown
from regionclip.demo.sessions import EXAMPLE_SEED, EXAMPLE_SIDE, Drawn

SETTING = Setting(model="icons", proposals="the model's own", num_regions=50)
ICONS = ("icons", "", "photo")


def nothing(share: float, text: str) -> None:
    """Tell nobody how far things are."""


def detected(
    handlers: Handlers, texts: tuple[str, str, str] = ICONS, *, min_score: float | None = 0.9
) -> Shown:
    handlers.begin("me")
    return handlers.detect(
        "me",
        SETTING,
        texts=texts,
        min_score=min_score,
        nms_iou=0.5,
        max_detections=100,
        one_name_per_place=True,
    )


def words(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", " ", html))


def first_box() -> list[float]:
    return draw_scene(EXAMPLE_SEED, 0, size=EXAMPLE_SIDE).boxes[0].tolist()


def drawn_first(place: int = 0) -> Drawn:
    return Drawn(place, first_box())


def view_of(shown: Shown) -> dict[str, Any]:
    assert shown.picture is not None
    return shown.picture


def test_a_visitor_begins_with_the_examples(handlers: Handlers) -> None:
    shown = handlers.begin("me")
    assert shown.strip is not None
    assert [each["name"] for each in shown.strip["pictures"]] == ["scene 1", "scene 2", "scene 3"]
    assert view_of(shown)["boxes"] == []
    assert view_of(shown)["image"].startswith("data:image/jpeg;base64,")
    assert shown.notice == ""


def test_an_upload_is_looked_at_at_once(handlers: Handlers, tmp_path: Path) -> None:
    handlers.begin("me")
    path = tmp_path / "<i>mine.png"
    Image.new("RGB", (2600, 1300), "white").save(path)
    shown = handlers.upload("me", str(path))
    assert shown.strip is not None
    assert shown.strip["current"] == 3
    # shown smaller, its boxes still in its own pixels
    assert (view_of(shown)["width"], view_of(shown)["height"]) == (2600, 1300)
    assert view_of(shown)["place"] == 3
    assert len(handlers.begin("you").strip["pictures"]) == 3  # type: ignore[index]


def test_a_bad_upload_changes_nothing_and_says_why(handlers: Handlers, tmp_path: Path) -> None:
    handlers.begin("me")
    path = tmp_path / "notes.png"
    path.write_text("x")
    shown = handlers.upload("me", str(path))
    assert shown.picture is None
    assert 'role="alert"' in shown.notice
    assert "notes.png: is not an image" in words(shown.notice)
    assert str(tmp_path) not in shown.notice
    assert "nothing has arrived" in words(handlers.upload("me", None).notice)


def test_detect_shows_boxes_a_sentence_and_three_files(handlers: Handlers) -> None:
    shown = detected(handlers)
    boxes = view_of(shown)["boxes"]
    assert words(shown.notice).strip() == f"{len(boxes)} boxes found, of 48 names in 20 regions"
    assert {"box", "name", "score", "color", "ink"} == set(boxes[0])
    assert re.fullmatch("#[0-9a-f]{6}", boxes[0]["color"])
    assert shown.files is not None
    assert [each.name for each in shown.files] == [
        "detections.json",
        "detections.png",
        "regions.parquet",
    ]


def test_nothing_found_names_the_way_out(handlers: Handlers) -> None:
    shown = detected(handlers, min_score=1.0)
    assert view_of(shown)["boxes"] == []
    assert "nothing found of 48 names" in words(shown.notice)
    assert "lower the score threshold" in words(shown.notice)


def test_a_chinese_name_is_taken_with_a_warning(handlers: Handlers) -> None:
    shown = detected(handlers, ("伞, umbrella", "wolf", "photo"), min_score=0.0)
    assert "伞: not written in Latin letters" in words(shown.notice)
    assert "2 names and 1 negative" in words(shown.notice)
    assert {each["name"] for each in view_of(shown)["boxes"]} <= {"伞", "umbrella"}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ((" ", "", "photo"), "no names to look for"),
        ((", ".join(map(str, range(500))), "", "imagenet80"), "500 names in 81 prompts each"),
        (("cat", "", "fotos"), "the prompts 'fotos' cannot be used"),
    ],
)
def test_bad_texts_become_a_notice(
    handlers: Handlers, texts: tuple[str, str, str], message: str
) -> None:
    shown = detected(handlers, texts)
    assert message in words(shown.notice)
    assert (shown.picture, shown.files) == (None, None)


def test_a_model_that_is_not_offered_becomes_a_notice(handlers: Handlers) -> None:
    handlers.begin("me")
    setting = replace(SETTING, model="/etc/passwd")
    shown = handlers.heat("me", setting, phrase="cat", templates="photo", step=nothing)
    assert "does not offer the model '/etc/passwd'" in words(shown.notice)


def test_what_nobody_foresaw_is_logged_and_said_in_general(
    handlers: Handlers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret path")

    monkeypatch.setattr(handling, "detect", broken)
    shown = detected(handlers)
    assert "something went wrong" in words(shown.notice)
    assert "secret path" not in shown.notice
    assert "secret path" in caplog.text


def test_a_drawn_box_is_named_and_its_like_is_shown(handlers: Handlers) -> None:
    handlers.begin("me")
    shown = handlers.name(
        "me", SETTING, drawn=drawn_first(), texts=ICONS, num_nearest=5, step=nothing
    )
    names = re.findall(r"<span>(.*?)</span>", shown.results)
    assert names[0] == CLASS_NAMES[draw_scene(EXAMPLE_SEED, 0, size=EXAMPLE_SIDE).labels[0]]
    assert names[-1] == "none of these"
    assert shown.results.count("<figure>") == 5
    assert view_of(shown)["drawn"] == pytest.approx(first_box())
    # the names change, the box stays
    again = handlers.name(
        "me", SETTING, drawn=None, texts=("<b>x", "", "none"), num_nearest=5, step=nothing
    )
    assert "&lt;b&gt;x" in again.results
    assert "<b>x" not in again.results


def test_a_negative_name_of_a_drawn_box_is_none_of_these(handlers: Handlers) -> None:
    handlers.begin("me")
    name = CLASS_NAMES[draw_scene(EXAMPLE_SEED, 0, size=EXAMPLE_SIDE).labels[0]]
    others = ", ".join(each for each in CLASS_NAMES if each != name)
    texts = (others, name, "photo")
    shown = handlers.name(
        "me", SETTING, drawn=drawn_first(), texts=texts, num_nearest=5, step=nothing
    )
    named = dict(re.findall(r"<span>(.*?)</span>.*?<b>([\d.]+)</b>", shown.results))
    assert name not in named
    assert float(named["none of these"]) > 0.9


def test_without_a_box_there_is_nothing_to_find(handlers: Handlers) -> None:
    handlers.begin("me")
    shown = handlers.find("me", SETTING, drawn=None, min_similarity=0.8, step=nothing)
    assert "no box yet" in words(shown.notice)


def test_find_marks_what_is_alike_in_the_other_pictures(handlers: Handlers) -> None:
    handlers.begin("me")
    steps: list[str] = []
    shown = handlers.find(
        "me",
        SETTING,
        drawn=drawn_first(),
        min_similarity=0.0,
        step=lambda share, text: steps.append(text),
    )
    assert len(steps) == 3
    assert "regions alike by 0.00 or more, in 2 of 2 other pictures" in words(shown.notice)
    assert shown.results.count("<figure") == 2
    assert shown.results.count("<rect") == int(words(shown.notice).split()[0])
    none = handlers.find("me", SETTING, drawn=None, min_similarity=1.0, step=nothing)
    assert "0 regions alike by 1.00 or more, in 0 of 2 other pictures" in words(none.notice)
    assert "lower the threshold" in words(none.notice)
    assert none.results.count("rc-without") == 2


def test_a_heat_map_covers_the_picture(handlers: Handlers) -> None:
    handlers.begin("me")
    shown = handlers.heat("me", SETTING, phrase=" anchor ", templates="photo", step=nothing)
    heat = view_of(shown)["heat"]
    assert len(heat["cells"]) == heat["rows"] * heat["columns"]
    assert heat["low"] == pytest.approx(min(heat["cells"]), abs=1e-4)
    assert "cosine similarity of 'anchor'" in words(shown.notice)


def test_another_picture_is_shown_without_what_was_drawn(handlers: Handlers) -> None:
    handlers.begin("me")
    handlers.find("me", SETTING, drawn=drawn_first(), min_similarity=0.8, step=nothing)
    shown = handlers.pick("me", 1)
    assert view_of(shown)["name"] == "scene 2"
    assert "no box yet" in words(
        handlers.find("me", SETTING, drawn=None, min_similarity=0.8, step=nothing).notice
    )
    assert "no picture number 9" in words(handlers.pick("me", 8).notice)


def test_a_box_drawn_on_another_picture_is_left_out(handlers: Handlers) -> None:
    """Its request may have waited in line while another picture was chosen."""
    handlers.begin("me")
    handlers.pick("me", 1)
    shown = handlers.find("me", SETTING, drawn=drawn_first(0), min_similarity=0.8, step=nothing)
    assert "the picture was changed before the box on it was looked at" in words(shown.notice)
    assert (shown.picture, shown.results) == (None, "")


def test_what_is_found_after_another_picture_was_chosen_is_left_out(handlers: Handlers) -> None:
    """Else its boxes would lie on the other picture."""
    handlers.begin("me")

    def go_on(share: float, text: str) -> None:
        handlers.pick("me", 2)

    shown = handlers.heat("me", SETTING, phrase="anchor", templates="photo", step=go_on)
    assert "you chose another picture while scene 1 was being looked at" in words(shown.notice)
    assert shown.picture is None


@pytest.mark.parametrize(
    ("asked", "made_last"),
    [("detect", "write_all"), ("name", "crops"), ("find", "pictures_with_places")],
)
def test_nor_is_what_was_found_when_another_was_chosen_while_it_was_put_together(
    asked: str, made_last: str, handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are written and pictures cut meanwhile."""
    place = handling if made_last == "write_all" else viewing
    make = getattr(place, made_last)

    def go_on_first(*values: Any, **options: Any) -> Any:
        handlers.pick("me", 2)
        return make(*values, **options)

    monkeypatch.setattr(place, made_last, go_on_first)
    handlers.begin("me")
    box = {"drawn": drawn_first(), "step": nothing}
    shown = {
        "detect": lambda: detected(handlers),
        "name": lambda: handlers.name("me", SETTING, texts=ICONS, num_nearest=5, **box),
        "find": lambda: handlers.find("me", SETTING, min_similarity=0.8, **box),
    }[asked]()
    assert "you chose another picture while scene 1 was being looked at" in words(shown.notice)
    assert (shown.picture, shown.results, shown.files) == (None, "", None)


def test_a_visit_that_ends_while_its_picture_is_read_names_no_file(
    handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = handling.read_image

    def end_first(path: Path) -> Any:
        handlers.sessions.end("me")
        return read(path / "gone")

    monkeypatch.setattr(handling, "read_image", end_first)
    notice = words(detected(handlers).notice)
    assert "this visit has ended" in notice
    assert "gone" not in notice


def test_a_visit_that_has_ended_is_said_whatever_is_asked_for(handlers: Handlers) -> None:
    handlers.begin("me")
    handlers.sessions.end("me")
    shown = [
        handlers.pick("me", 1),
        handlers.upload("me", "photo.jpg"),
        handlers.heat("me", SETTING, phrase="anchor", templates="photo", step=nothing),
        handlers.find("me", SETTING, drawn=None, min_similarity=0.8, step=nothing),
    ]
    for each in shown:
        assert "this visit has ended, and its pictures are deleted" in words(each.notice)
        assert "Load the page again" in words(each.notice)
        assert each.picture is None
    assert len(handlers.sessions) == 0


def test_an_emptied_number_is_named(handlers: Handlers) -> None:
    shown = detected(handlers, min_score=None)
    assert words(shown.notice).strip() == '"Lowest score" is empty; give a number from 0 to 1'
    setting = replace(SETTING, num_regions=None)
    named = handlers.name(
        "me", setting, drawn=drawn_first(), texts=ICONS, num_nearest=5, step=nothing
    )
    assert '"Most regions" is empty; give a number from 10 to 1000' in words(named.notice)


def test_a_picture_is_decoded_once_for_each_thing_that_is_asked_for(
    handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large one that takes a second, and a hundred megabytes."""
    opened: list[Path] = []
    read = Image.open

    def open_and_count(file: Any, *rest: Any, **options: Any) -> Any:
        opened.append(Path(file))
        return read(file, *rest, **options)

    def originals() -> list[str]:
        return sorted(each.name for each in opened if each.suffix == ".png")

    monkeypatch.setattr(Image, "open", open_and_count)
    detected(handlers)
    assert originals() == ["scene-1.png"]
    opened.clear()
    handlers.name("me", SETTING, drawn=drawn_first(), texts=ICONS, num_nearest=48, step=nothing)
    assert originals() == ["scene-1.png", "scene-2.png", "scene-3.png"]
    opened.clear()
    handlers.find("me", SETTING, drawn=drawn_first(), min_similarity=0.0, step=nothing)
    handlers.pick("me", 2)
    assert originals() == ["scene-1.png"]


def test_a_model_says_what_its_fields_begin_with(handlers: Handlers) -> None:
    handlers.begin("me")
    beginning = handlers.choose("me", "icons").beginning
    assert beginning is not None
    assert (beginning.names, beginning.min_score) == (CLASS_NAMES, 0.9)
    shown = handlers.choose("me", "/etc/passwd")
    assert shown.beginning is None
    assert "does not offer the model '/etc/passwd'" in words(shown.notice)
