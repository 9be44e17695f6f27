"""The page: what stands where, and which handler answers to what. Needs Gradio."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any, Literal

import gradio as gr
from gradio import themes

from regionclip.concepts.templates import TEMPLATES

from .handlers import Handlers, Setting, Shown
from .models import names_to_begin_with, score_to_begin_with

TITLE = "regionclip demo"
MODEL = "model"
"""All that runs a model waits in one line: each takes every core, or the whole GPU."""
MAX_WAITING = 100
MAX_TEXT = 40_000
"""Characters of a list of names."""
ALIKE_AT_FIRST = 0.8
PROGRESS = gr.Progress()
"""As a default value it tells Gradio to pass a progress bar of the visitor's."""
Wired = tuple[Any, ...]
"""Components: inputs or outputs of an event."""


@dataclass(frozen=True, slots=True)
class Bar:
    """What stands above the tabs."""

    upload: gr.Image
    strip: gr.HTML
    notice: gr.HTML
    model: gr.Dropdown
    proposals: gr.Dropdown
    num_regions: gr.Slider

    @property
    def setting(self) -> Wired:
        """Inputs that :func:`_setting` reads."""
        return self.model, self.proposals, self.num_regions


@dataclass(frozen=True, slots=True)
class Tab:
    """What every tab has."""

    notice: gr.HTML
    picture: gr.HTML
    results: gr.HTML
    downloads: Wired = ()


def browser_file(name: str) -> str:
    """The text of a file that the browser is given."""
    return (files("regionclip.demo") / "browser" / name).read_text(encoding="utf-8")


def page_head() -> str:
    """Script and style; nothing in them asks another host."""
    return (
        f"<script>{browser_file('demo.js')}</script>\n<style>{browser_file('demo.css')}</style>\n"
    )


def page_theme() -> themes.Base:
    """Gradio's own looks with the fonts of the visitor's machine, not with Google's."""
    sans = [themes.Font("system-ui"), themes.Font("sans-serif")]
    mono = [themes.Font("ui-monospace"), themes.Font("monospace")]
    return themes.Soft(primary_hue="pink", neutral_hue="slate", font=sans, font_mono=mono)


def build_page(handlers: Handlers) -> gr.Blocks:
    """The whole page, its events wired.

    Args:
        handlers: Answer.
    """
    # Gradio deletes files of its cache after an hour; it looks every ten minutes
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown(
            "# regionclip\nDetect anything by name, name any region, find it again. "
            "Choose a picture, or bring your own; it stays on the machine that runs this page."
        )
        bar = _bar(handlers)
        with gr.Tabs():
            with gr.Tab("Detect"):
                detect = _detect_tab(handlers, bar)
            with gr.Tab("Name a region"):
                name = _name_tab(handlers, bar)
            with gr.Tab("Find alike"):
                find = _find_tab(handlers, bar)
            with gr.Tab("Heat map"):
                heat = _heat_tab(handlers, bar)
        tabs = (detect, name, find, heat)
        _wire_bar(page, handlers, bar, tabs)
    page.queue(max_size=MAX_WAITING, default_concurrency_limit=8)
    return page


def _bar(handlers: Handlers) -> Bar:
    models = handlers.models
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280):
            upload = gr.Image(
                type="filepath",
                sources=["upload", "clipboard"],
                label="Your picture",
                height=160,
                placeholder="Drop, paste or choose an image",
                buttons=[],
                elem_id="upload",
            )
            # as it was sent: Gradio would decode it first, and say little of what is wrong. A
            # class of its own would be taken for a component with its own script
            upload.preprocess = _path_of
        with gr.Column(scale=5, min_width=360):
            strip = gr.HTML(
                html_template='<div class="rc-root"></div>',
                js_on_load="regionclipDemo.strip(element, props,"
                ' (kind, data) => trigger("picked", data), watch)',
                apply_default_css=False,
                elem_id="strip",
                elem_classes="rc-strip",
            )
    notice = gr.HTML(apply_default_css=False, elem_id="bar-notice")
    with gr.Row():
        model = gr.Dropdown(list(models.names), value=models.names[0], label="Model")
        proposals = gr.Dropdown(
            list(models.proposals), value=models.proposals[0], label="Where regions come from"
        )
        num_regions = gr.Slider(10, 1000, value=100, step=10, label="Most regions")
    return Bar(upload, strip, notice, model, proposals, num_regions)


def _path_of(payload: Any) -> str | None:
    return None if payload is None else payload.path


def _picture(elem_id: str) -> gr.HTML:
    return gr.HTML(
        html_template='<div class="rc-root"></div>',
        js_on_load="regionclipDemo.picture(element, props,"
        ' (kind, data) => trigger("drawn", data), watch)',
        apply_default_css=False,
        elem_id=elem_id,
    )


def _html(elem_id: str) -> gr.HTML:
    return gr.HTML(apply_default_css=False, elem_id=elem_id)


def _texts(handlers: Handlers, tab: str) -> Wired:
    """Names, negative names and prompts."""
    first = handlers.models.names[0]
    names = gr.Textbox(
        ", ".join(names_to_begin_with(first)),
        label="Names",
        info="With commas, or one per line; or the name of a list, such as coco80, lvis1203, icons",
        lines=3,
        max_lines=8,
        max_length=MAX_TEXT,
        elem_id=f"{tab}-names",
    )
    negatives = gr.Textbox(
        label="Negative names",
        info="Compete for every region, and are not shown",
        max_length=MAX_TEXT,
        elem_id=f"{tab}-negatives",
    )
    templates = gr.Dropdown(
        list(TEMPLATES),
        value="photo",
        allow_custom_value=True,
        label="Prompts",
        info="A set, or your own sentence with {} for the name",
        elem_id=f"{tab}-prompts",
    )
    return names, negatives, templates


def _detect_tab(handlers: Handlers, bar: Bar) -> Tab:
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            texts = _texts(handlers, "detect")
            button = gr.Button("Detect", variant="primary", elem_id="detect-button")
            with gr.Accordion("Thresholds", open=True):
                options = _thresholds(score_to_begin_with(handlers.models.names[0]))
        with gr.Column(scale=3, min_width=360):
            notice, picture = _html("detect-notice"), _picture("detect-picture")
            with gr.Row():
                downloads = tuple(
                    gr.DownloadButton(
                        label, interactive=False, size="sm", elem_id=f"download-{kind}"
                    )
                    for label, kind in (
                        ("COCO json", "coco"),
                        ("PNG", "png"),
                        ("Region vectors (Parquet)", "parquet"),
                    )
                )
    tab = Tab(notice, picture, notice, downloads)

    def detect(request: gr.Request, *values: Any) -> list[Any]:
        setting, (names, negatives, templates, *rest) = _setting(values)
        min_score, nms_iou, max_detections, one_name_per_place = rest
        shown = handlers.detect(
            _key(request),
            setting,
            texts=(names, negatives, templates),
            min_score=float(min_score),
            nms_iou=float(nms_iou),
            max_detections=int(max_detections),
            one_name_per_place=bool(one_name_per_place),
        )
        paths = shown.files or (None, None, None)
        buttons = [gr.update(value=each and str(each), interactive=bool(each)) for each in paths]
        return [shown.notice, _changed(shown.picture), *buttons]

    _run(
        (button.click, texts[0].submit),
        detect,
        inputs=(*bar.setting, *texts, *options),
        outputs=(notice, picture, *downloads),
    )
    return tab


def _thresholds(min_score: float) -> Wired:
    return (
        gr.Slider(
            0, 1, value=min_score, step=0.01, label="Lowest score", elem_id="detect-min-score"
        ),
        gr.Slider(0, 1, value=0.5, step=0.05, label="Overlap (NMS IoU) of boxes of a name"),
        gr.Slider(1, 300, value=100, step=1, label="Most boxes"),
        gr.Checkbox(
            True,
            label="One name per place",
            info="Of boxes that overlap by half, whatever their names, only the best",
        ),
    )


def _name_tab(handlers: Handlers, bar: Bar) -> Tab:
    with gr.Row():
        with gr.Column(scale=3, min_width=360):
            gr.Markdown("Draw a box with the mouse pressed: what is in it, and where is its like?")
            notice, picture = _html("name-notice"), _picture("name-picture")
        with gr.Column(scale=2, min_width=300):
            results = _html("name-results")
            with gr.Accordion("Names to choose from", open=True):
                texts = _texts(handlers, "name")
                nearest = gr.Slider(1, 48, value=12, step=1, label="Nearest regions shown")

    def name(
        request: gr.Request, event: gr.EventData, progress: Any = PROGRESS, *values: Any
    ) -> list[Any]:
        setting, (names, negatives, templates, num_nearest) = _setting(values)
        shown = handlers.name(
            _key(request),
            setting,
            box=_drawn(event),
            texts=(names, negatives, templates),
            num_nearest=int(num_nearest),
            step=partial(_step, progress),
        )
        return [shown.notice, _changed(shown.picture), shown.results]

    tab = Tab(notice, picture, results)
    _run(
        (picture.drawn, texts[0].submit),
        name,
        inputs=(*bar.setting, *texts, nearest),
        outputs=(notice, picture, results),
    )
    return tab


def _find_tab(handlers: Handlers, bar: Bar) -> Tab:
    with gr.Row():
        with gr.Column(scale=2, min_width=340):
            gr.Markdown("Draw a box around an object; it is looked for in all other pictures.")
            notice, picture = _html("find-notice"), _picture("find-picture")
            alike = gr.Slider(
                0, 1, value=ALIKE_AT_FIRST, step=0.01, label="Least similarity", elem_id="alike"
            )
        with gr.Column(scale=3, min_width=360):
            results = _html("find-results")

    def find(
        request: gr.Request, event: gr.EventData, progress: Any = PROGRESS, *values: Any
    ) -> list[Any]:
        setting, (min_similarity,) = _setting(values)
        shown = handlers.find(
            _key(request),
            setting,
            box=_drawn(event),
            min_similarity=float(min_similarity),
            step=partial(_step, progress),
        )
        return [shown.notice, _changed(shown.picture), shown.results]

    _run(
        (picture.drawn, alike.release),
        find,
        inputs=(*bar.setting, alike),
        outputs=(notice, picture, results),
    )
    return Tab(notice, picture, results)


def _heat_tab(handlers: Handlers, bar: Bar) -> Tab:
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            phrase = gr.Textbox(
                label="A phrase", placeholder="a red umbrella", max_length=500, elem_id="phrase"
            )
            templates = gr.Dropdown(
                list(TEMPLATES), value="photo", allow_custom_value=True, label="Prompts"
            )
            button = gr.Button("Show where", variant="primary", elem_id="heat-button")
        with gr.Column(scale=3, min_width=360):
            notice, picture = _html("heat-notice"), _picture("heat-picture")

    def heat(request: gr.Request, progress: Any = PROGRESS, *values: Any) -> list[Any]:
        setting, (text, prompts) = _setting(values)
        shown = handlers.heat(
            _key(request),
            setting,
            phrase=text,
            templates=prompts,
            step=partial(_step, progress),
        )
        return [shown.notice, _changed(shown.picture)]

    _run(
        (button.click, phrase.submit),
        heat,
        inputs=(*bar.setting, phrase, templates),
        outputs=(notice, picture),
    )
    return Tab(notice, picture, notice)


def _wire_bar(page: gr.Blocks, handlers: Handlers, bar: Bar, tabs: Sequence[Tab]) -> None:
    """What changes the picture changes it in every tab, and empties what was found before."""
    outputs: list[Any] = [bar.upload, bar.strip, bar.notice]
    for tab in tabs:
        outputs += [tab.picture, tab.notice, tab.results, *tab.downloads]
    drawable = [tab.results is not tab.notice for tab in tabs]

    def changed(shown: Shown) -> list[Any]:
        if shown.picture is None:
            return [None, gr.skip(), shown.notice, *[gr.skip()] * (len(outputs) - 3)]
        values: list[Any] = [None, shown.strip, shown.notice]
        for tab, is_drawable in zip(tabs, drawable, strict=True):
            values += [{**shown.picture, "is_drawable": is_drawable}, "", ""]
            values += [gr.update(value=None, interactive=False)] * len(tab.downloads)
        return values

    def begin(request: gr.Request) -> list[Any]:
        return changed(handlers.begin(_key(request)))

    def upload(request: gr.Request, path: str | None) -> list[Any]:
        return changed(handlers.upload(_key(request), path))

    def pick(request: gr.Request, event: gr.EventData) -> list[Any]:
        return changed(handlers.pick(_key(request), int(event.index)))

    def end(request: gr.Request) -> None:
        handlers.sessions.end(_key(request))

    hidden = {"outputs": outputs, "show_progress": "hidden", "api_visibility": "private"}
    page.load(begin, None, **hidden)
    bar.upload.upload(upload, bar.upload, **hidden)
    bar.strip.picked(pick, None, **hidden)
    page.unload(end)


def _run(
    triggers: Sequence[Callable[..., Any]],
    function: Callable[..., Any],
    *,
    inputs: Sequence[Any],
    outputs: Sequence[Any],
) -> None:
    """Have events run a model, one at a time for all visitors."""
    show: Literal["minimal"] = "minimal"
    for trigger in triggers:
        trigger(
            function,
            list(inputs),
            list(outputs),
            concurrency_limit=1,
            concurrency_id=MODEL,
            show_progress=show,
            api_visibility="private",
        )


def _setting(values: Sequence[Any]) -> tuple[Setting, Sequence[Any]]:
    """The inputs of :attr:`Bar.setting`, and those that follow."""
    model, proposals, num_regions, *others = values
    setting = Setting(model=model, proposals=proposals, num_regions=int(num_regions))
    return setting, others


def _changed(value: Any) -> Any:
    return gr.skip() if value is None else value


def _drawn(event: gr.EventData) -> list[float] | None:
    """The box that was drawn, if that is what happened."""
    data = event._data
    return data.get("box") if isinstance(data, dict) else None


def _key(request: gr.Request) -> str:
    """A visitor's page: another tab of the browser is another visitor."""
    return request.session_hash or ""


def _step(progress: Any, share: float, text: str) -> None:
    progress(share, desc=text)
