"""The demo in a real browser, tab by tab, without any host but its own.

``make test-browser`` runs it and keeps pictures of the page in ``demo/screenshots``. It takes
Chromium (Debian: ``apt-get install chromium``) and ``pip install "regionclip[browser]"``.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image
from pyarrow import parquet

from regionclip.data.icons import CLASS_NAMES, draw_scene
from regionclip.demo.sessions import EXAMPLE_SEED, EXAMPLE_SIDE, NUM_EXAMPLES

sync_api = pytest.importorskip(
    "playwright.sync_api", reason='needs Playwright: pip install "regionclip[browser]"'
)
Page = Any
Browser = Any
"""Both are Playwright's; their types are not there to check where it is not installed."""
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
    pytest.mark.timeout(1800),
]
ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--disable-quic",
    # no name leads anywhere: as on a machine without a network
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
COPY_A_PICTURE = """async () => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 48 });
    canvas.getContext("2d").fillRect(8, 8, 20, 20);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
    await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
}"""
PATIENCE = 180_000
"""Milliseconds: a machine may be busy."""
STARTED_OFFLINE = """
import socket, sys

def refuse(own, address):
    if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        with open(sys.argv[1], "a") as log:
            print(address, file=log)
        raise OSError("no network here")
    return connect(own, address)

connect = socket.socket.connect
socket.socket.connect = refuse
from regionclip.cli import main
sys.exit(main(["demo", "--no-browser", "--port", "0", "--model", "icons", sys.argv[2]]))
"""


def shot(page: Page, name: str) -> None:
    """Keep a picture of the page where ``REGIONCLIP_SCREENSHOTS`` says, if it does."""
    folder = os.environ.get("REGIONCLIP_SCREENSHOTS")
    if folder is not None:
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@dataclass(frozen=True, slots=True)
class Demo:
    """A demo that runs.

    Attributes:
        address: Of its page.
        folder: All its files are in here.
        seconds: From its command to the announcement of the page.
        cpu_seconds: What that took of all cores together.
    """

    address: str
    folder: Path
    seconds: float
    cpu_seconds: float

    def files(self) -> set[str]:
        """Names of the files that came from visitors, or are for them."""
        return {path.name for path in self.folder.glob("*/gradio/**/*") if path.is_file()}


def cpu_seconds(pid: int) -> float:
    """What a process has computed until now, where Linux runs it (proc(5), utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo of two models, the second a copy of the first, that asks no other machine."""
    folder = tmp_path_factory.mktemp("demo")
    asked, second, temporary = folder / "asked.txt", folder / "second.safetensors", folder / "tmp"
    temporary.mkdir()
    with as_file(files("regionclip.assets") / "icons.safetensors") as icons:
        shutil.copyfile(icons, second)
    begun = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", STARTED_OFFLINE, str(asked), str(second)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": str(temporary)},
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "http://127.0.0.1:" in line
            address = line.split("demo is at ")[1].split(" ")[0]
            seconds = time.perf_counter() - begun
            yield Demo(address, temporary, seconds, cpu_seconds(process.pid))
        finally:
            process.terminate()
            process.wait(60)
    assert not asked.exists(), asked.read_text()
    assert list(temporary.glob("regionclip-demo-*")) == []


@pytest.fixture(scope="module")
def address(demo: Demo) -> str:
    return demo.address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    sync_api.expect.set_options(timeout=PATIENCE)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@dataclass(frozen=True, slots=True)
class Visit:
    """A page, the hosts it asked, what it complained of, and the seconds until it was shown."""

    page: Page
    hosts: set[str]
    complaints: list[str]
    seconds: float


def visit(browser: Browser, address: str) -> Visit:
    """Open the page as a visitor of its own."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    hosts: set[str] = set()
    complaints: list[str] = []
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    begun = time.perf_counter()
    page.goto(address)
    page.wait_for_selector("#strip .rc-thumb")
    page.wait_for_selector("#detect-picture img")
    return Visit(page, hosts, complaints, time.perf_counter() - begun)


@pytest.fixture(scope="module")
def first(browser: Browser, address: str) -> Visit:
    """The visitor whom the tests follow from tab to tab."""
    return visit(browser, address)


@pytest.fixture
def page(first: Visit) -> Page:
    """The first visitor's, at the first tab and picture."""
    page = first.page
    page.click("button[role=tab]:has-text('Detect')")
    pick(page, 1)
    return page


def said(page: Page, tab: str, text: str) -> str:
    """The tab's notice, once it has ``text``."""
    page.locator(f"#{tab}-notice", has_text=text).wait_for()
    return page.inner_text(f"#{tab}-notice")


def type_names(page: Page, tab: str, names: str) -> None:
    page.fill(f"#{tab}-names textarea", names)


def choose(page: Page, elem_id: str, option: str) -> None:
    """The current one has a mark before it."""
    page.click(f"#{elem_id} input")
    named = re.compile(rf"(^|\s){re.escape(option)}\s*$")
    page.locator("[role=option]", has_text=named).click()


def choose_prompts(page: Page, prompts: str) -> None:
    choose(page, "detect-prompts", prompts)


def set_lowest_score(page: Page, score: float) -> None:
    number = page.locator("#detect-min-score input[type=number]")
    number.fill(str(score))
    number.press("Enter")


def detect(page: Page) -> None:
    page.click("#detect-button")


def found_names(page: Page) -> list[str]:
    """Names in the table of detections, row by row."""
    return page.locator("#detect-picture tbody tr td:first-child").all_inner_texts()


def pick(page: Page, number: int) -> None:
    """Choose a picture by its place, from 1 on."""
    page.locator("#strip .rc-thumb").nth(number - 1).click()
    page.wait_for_selector(f"#strip .rc-thumb:nth-child({number})[aria-pressed=true]")


def upload(page: Page, path: Path) -> None:
    page.set_input_files("#upload input[type=file]", path)


def draw(page: Page, tab: str, box: list[float]) -> None:
    """Draw ``xyxy``, in pixels of an example."""
    stage = page.locator(f"#{tab}-picture .rc-stage")
    stage.scroll_into_view_if_needed()
    frame = stage.bounding_box()
    assert frame is not None
    scale = frame["width"] / EXAMPLE_SIDE
    x0, y0, x1, y1 = (each * scale for each in box)
    page.mouse.move(frame["x"] + x0, frame["y"] + y0)
    page.mouse.down()
    page.mouse.move(frame["x"] + (x0 + x1) / 2, frame["y"] + (y0 + y1) / 2)
    page.mouse.move(frame["x"] + x1, frame["y"] + y1)
    page.mouse.up()


def truth(number: int) -> tuple[list[list[float]], list[str]]:
    """Boxes and names of an example, by its place from 1 on."""
    scene = draw_scene(EXAMPLE_SEED, number - 1, size=EXAMPLE_SIDE)
    return scene.boxes.tolist(), [CLASS_NAMES[label] for label in scene.labels]


def test_the_start(demo: Demo, first: Visit, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        sys.stdout.write(
            f"\nstart: the page is announced after {demo.seconds:.1f} s, in which it computed for "
            f"{demo.cpu_seconds:.1f} s, and shown {first.seconds:.1f} s later\n"
        )
    # ready within 15 seconds on two idle cores; these may have much other work
    assert demo.cpu_seconds < 30
    assert demo.seconds + first.seconds < 300


def test_detect(page: Page, tmp_path: Path) -> None:
    shot(page, "1-begin")
    detect(page)
    said(page, "detect", "boxes found, of 48 names")
    names = found_names(page)
    assert set(truth(1)[1]) <= set(names)
    shot(page, "2-detected")

    page.locator("#detect-picture .rc-box").last.hover(force=True)
    assert page.locator("#detect-picture tr.rc-lit").count() == 1
    assert page.locator("#detect-picture .rc-label.rc-lit").count() == 1
    shot(page, "3-hovered")

    page.click("#detect-picture th:first-child button")
    assert found_names(page) == sorted(names)
    page.locator("#detect-picture .rc-chip").first.click()
    shown = page.locator("#detect-picture .rc-box:not(.rc-off)").count()
    assert 0 < shown < len(names)
    assert page.inner_text("#detect-picture .rc-count").startswith(f"{shown} of {len(names)}")
    shot(page, "4-filtered")

    taken = {}
    for kind in ("coco", "png", "parquet"):
        with page.expect_download() as download:
            page.click(f"#download-{kind}")
        taken[kind] = tmp_path / download.value.suggested_filename
        download.value.save_as(taken[kind])
    assert [each.name for each in taken.values()] == [
        "detections.json",
        "detections.png",
        "regions.parquet",
    ]
    assert len(json.loads(taken["coco"].read_text())["annotations"]) == len(names)
    with Image.open(taken["png"]) as drawn:
        assert drawn.format == "PNG"
    assert parquet.read_table(taken["parquet"]).num_rows == len(names)


def test_the_threshold(page: Page) -> None:
    set_lowest_score(page, 1)
    detect(page)
    said(page, "detect", "nothing found of 48 names")
    shot(page, "5-nothing-found")
    set_lowest_score(page, 0.9)


def test_the_fields_follow_the_model(page: Page) -> None:
    """But for names that somebody typed."""
    type_names(page, "detect", "anchor, my umbrella")
    choose(page, "model", "second.safetensors")
    number = page.locator("#detect-min-score input[type=number]")
    sync_api.expect(number).to_have_value("0.3")
    sync_api.expect(page.locator("#num-regions input[type=number]")).to_have_value("300")
    assert page.input_value("#detect-names textarea") == "anchor, my umbrella"
    shot(page, "15-another-model")
    # what is in a tab that was never opened is there when it is
    page.click("button[role=tab]:has-text('Name a region')")
    assert page.input_value("#name-names textarea").startswith("person, dog")
    choose(page, "model", "icons")
    sync_api.expect(page.locator("#name-names textarea")).to_have_value(", ".join(CLASS_NAMES))
    page.click("button[role=tab]:has-text('Detect')")
    sync_api.expect(number).to_have_value("0.9")


def test_bad_uploads(page: Page, tmp_path: Path) -> None:
    Image.fromarray(draw_scene(5, 0, size=400).pixels).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "notes.png").write_text("no image at all")
    Image.new("1", (10_000, 10_000)).save(tmp_path / "huge.png")
    upload(page, tmp_path / "cut.jpg")
    assert "download it again" in said(page, "bar", "cut.jpg: is damaged or cut off")
    shot(page, "6-truncated")
    upload(page, tmp_path / "huge.png")
    assert "shrink it" in said(page, "bar", "huge.png: is too large to decode safely (10000x10000")
    shot(page, "7-100-megapixels")
    upload(page, tmp_path / "notes.png")
    assert "convert it" in said(page, "bar", "notes.png: is not an image")
    assert page.locator("#strip .rc-thumb").count() == NUM_EXAMPLES


def test_no_names(page: Page) -> None:
    type_names(page, "detect", " , ")
    detect(page)
    assert "type some" in said(page, "detect", "no names to look for")
    shot(page, "8-no-names")


def test_500_names(page: Page) -> None:
    type_names(page, "detect", ", ".join(f"thing {number}" for number in range(500)))
    choose_prompts(page, "imagenet80")
    detect(page)
    said(page, "detect", "500 names in 81 prompts each are 40500 texts")
    shot(page, "9-500-names")
    choose_prompts(page, "photo")
    detect(page)
    said(page, "detect", "of 500 names in ")


def test_a_chinese_name_and_one_with_markup(page: Page) -> None:
    names = truth(1)[1]
    type_names(page, "detect", f"雨伞, {', '.join(names)}, <b>bold</b>")
    choose_prompts(page, "photo")
    detect(page)
    said(page, "detect", "雨伞: not written in Latin letters")
    assert set(names) <= set(found_names(page))
    shot(page, "10-chinese-name")


def test_a_negative_name(page: Page) -> None:
    """What was found loses its place to the right name, which is not shown."""
    name = truth(1)[1][0]
    choose_prompts(page, "photo")
    page.fill("#detect-negatives textarea, #detect-negatives input", name)
    type_names(page, "detect", ", ".join(each for each in CLASS_NAMES if each != name))
    detect(page)
    said(page, "detect", "47 names and 1 negative")
    assert name not in found_names(page)
    page.fill("#detect-negatives textarea, #detect-negatives input", "")


def test_name_a_region(page: Page) -> None:
    boxes, names = truth(1)
    page.click("button[role=tab]:has-text('Name a region')")
    draw(page, "name", boxes[0])
    page.wait_for_selector("#name-results .rc-bars")
    assert page.inner_text("#name-results .rc-bars span:first-child") == names[0]
    assert page.locator("#name-results .rc-grid figure").count() == 12
    assert page.locator("#name-picture .rc-drawn").count() == 1
    shot(page, "11-named")
    type_names(page, "name", "a torch")
    page.click("#name-button")
    # the name, and "none of these"
    page.wait_for_function("document.querySelectorAll('#name-results .rc-bars span').length == 2")
    assert page.locator("#name-picture .rc-drawn").count() == 1
    draw(page, "name", [5, 5, 6, 6])
    said(page, "name", "that box is too small")


def test_find_alike(page: Page) -> None:
    page.click("button[role=tab]:has-text('Find alike')")
    boxes, names = truth(1)
    others = {number: truth(number)[1] for number in range(2, NUM_EXAMPLES + 1)}
    name = next(each for each in names if any(each in own for own in others.values()))
    draw(page, "find", boxes[names.index(name)])
    said(page, "find", "alike by ")
    # another scene with such a thing comes first
    captions = page.locator("#find-results figure").all_inner_texts()
    first = re.match(r"scene (\d+): ", captions[0].strip())
    assert first is not None
    assert name in others[int(first[1])]
    assert page.locator("#find-results figure").count() == NUM_EXAMPLES - 1
    shot(page, "12-found-alike")


def test_heat_map(page: Page) -> None:
    page.click("button[role=tab]:has-text('Heat map')")
    page.click("#heat-button")
    said(page, "heat", "no phrase to look for")
    page.fill("#phrase textarea, #phrase input", f"a red {truth(1)[1][0]}")
    page.click("#heat-button")
    said(page, "heat", "cosine similarity")
    page.locator("#heat-picture .rc-stage").hover()
    assert "similarity here" in page.inner_text("#heat-picture .rc-reading")
    shot(page, "13-heat")


def test_another_picture_empties_what_was_found(page: Page) -> None:
    pick(page, 3)
    page.wait_for_function("!document.querySelector('#heat-picture .rc-heat')")
    assert page.locator("#find-results figure").count() == 0
    assert page.locator("#detect-picture .rc-box").count() == 0


def test_a_box_drawn_while_the_picture_changes_is_left_out(page: Page) -> None:
    """It came from the picture before, whose place it carries."""
    page.click("button[role=tab]:has-text('Find alike')")
    waiting: list[Any] = []
    page.route("**/queue/join*", lambda route: waiting.append(route), times=1)
    draw(page, "find", truth(1)[0][0])
    pick(page, 2)
    waiting[0].continue_()
    said(page, "find", "the box is left out; draw it on the picture that you see")
    shot(page, "16-box-of-another-picture")


def test_two_visitors_at_once(page: Page, browser: Browser, address: str, tmp_path: Path) -> None:
    """Each has pictures of their own; the first one's are uploaded and pasted."""
    second = visit(browser, address)
    other = second.page
    Image.fromarray(draw_scene(6, 0, size=200).pixels).save(tmp_path / "private.png")
    upload(page, tmp_path / "private.png")
    page.wait_for_selector(f"#strip .rc-thumb:nth-child({NUM_EXAMPLES + 1})")
    assert page.inner_text("#bar-notice").strip() == ""
    assert page.inner_text("#strip .rc-thumb[aria-pressed=true]") == "private.png"
    page.bring_to_front()
    page.evaluate(COPY_A_PICTURE)
    page.click('#upload button[aria-label="Paste from clipboard"]')
    page.wait_for_selector(f"#strip .rc-thumb:nth-child({NUM_EXAMPLES + 2})")
    shot(page, "14-uploaded-and-pasted")

    pick(page, 2)
    pick(other, 4)
    for own in (page, other):
        type_names(own, "detect", "icons")
        detect(own)
    for own, number in ((page, 2), (other, 4)):
        said(own, "detect", "boxes found, of 48 names")
        assert set(truth(number)[1]) <= set(found_names(own))
    assert other.locator("#strip .rc-thumb").count() == NUM_EXAMPLES
    check_it_asked_no_other_host(second, address)


def test_a_visitor_who_leaves_leaves_nothing_behind(
    browser: Browser, address: str, demo: Demo, tmp_path: Path
) -> None:
    visitor = visit(browser, address)
    Image.fromarray(draw_scene(7, 0, size=200).pixels).save(tmp_path / "secret.png")
    upload(visitor.page, tmp_path / "secret.png")
    visitor.page.wait_for_selector(f"#strip .rc-thumb:nth-child({NUM_EXAMPLES + 1})")
    # as it arrived, and the copy
    assert {each for each in demo.files() if "secret.png" in each} >= {
        "secret.png",
        "0001-secret.png",
    }
    visitor.page.context.close()
    deadline = time.monotonic() + PATIENCE / 1000
    while any("secret.png" in each for each in demo.files()):
        assert time.monotonic() < deadline
        time.sleep(1)


def test_no_host_was_asked_but_its_own(first: Visit, address: str) -> None:
    assert first.hosts
    check_it_asked_no_other_host(first, address)


def check_it_asked_no_other_host(visited: Visit, address: str) -> None:
    # what is inside an address itself ("data:", "blob:") has no host
    assert visited.hosts - {""} == {urlsplit(address).netloc}
    # a host that the page's policy forbids would be in the console
    assert [each for each in visited.complaints if each.startswith("error")] == []
