"""The page: what stands where, and which handler answers to what. Needs Gradio."""

from functools import partial
from typing import Any

import gradio as gr

from regionclip.concepts.templates import TEMPLATES

from .bar import Bar, Tab, Wired, build_bar, listed, wire_bar, wire_model
from .handlers import Handlers
from .inputs import (
    MAX_BOXES,
    MAX_PHRASE,
    MAX_TEXT,
    MIN_SCORE,
    MIN_SIMILARITY,
    NMS_IOU,
    NUM_NEAREST,
)
from .models import Beginning
from .wiring import (
    PROGRESS,
    changed,
    drawn_box,
    keep_files,
    run_model,
    setting_of,
    slider,
    tell,
    visitor,
)

TITLE = "regionclip demo"
MAX_WAITING = 100
SECONDS_TO_LOOK = 60
SECONDS_TO_TAKE = 600
"""Files that arrive and that no page takes are deleted at this age, looked for every so often."""
ALIKE_AT_FIRST = 0.8
NEAREST_AT_FIRST = 12


def build_page(handlers: Handlers) -> gr.Blocks:
    """The whole page, its events wired.

    Args:
        handlers: Answer.
    """
    first = handlers.models.beginning(handlers.models.names[0])
    delete_cache = (SECONDS_TO_LOOK, SECONDS_TO_TAKE)
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=delete_cache) as page:
        gr.Markdown(
            "# regionclip\nDetect anything by name, name any region, find it again. "
            "Choose a picture, or bring your own; it stays on the machine that runs this page."
        )
        bar = build_bar(handlers, first)
        with gr.Tabs():
            with gr.Tab("Detect"):
                detect = _detect_tab(handlers, bar, first)
            with gr.Tab("Name a region"):
                name = _name_tab(handlers, bar, first)
            with gr.Tab("Find alike"):
                find = _find_tab(handlers, bar)
            with gr.Tab("Heat map"):
                heat = _heat_tab(handlers, bar)
        tabs = (detect, name, find, heat)
        wire_bar(page, handlers, bar, tabs)
        wire_model(handlers, bar, tabs, first)
    page.queue(max_size=MAX_WAITING, default_concurrency_limit=8)
    return page


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


def _texts(first: Beginning, tab: str) -> Wired:
    """Names, negative names and prompts."""
    names = gr.Textbox(
        listed(first),
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


def _detect_tab(handlers: Handlers, bar: Bar, first: Beginning) -> Tab:
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            texts = _texts(first, "detect")
            button = gr.Button("Detect", variant="primary", elem_id="detect-button")
            with gr.Accordion("Thresholds", open=True):
                options = _thresholds(first)
        with gr.Column(scale=3, min_width=360):
            notice, picture = _html("detect-notice"), _picture("detect-picture")
            with gr.Row():
                downloads = tuple(
                    gr.DownloadButton(
                        label, interactive=False, size="sm", elem_id=f"download-{kind}"
                    )
                    for label, kind in (
                        ("Download COCO json", "coco"),
                        ("Download PNG", "png"),
                        ("Download vectors (Parquet)", "parquet"),
                    )
                )
    tab = Tab(notice, picture, notice, downloads, texts[0], options[:2])

    def detect(request: gr.Request, *values: Any) -> list[Any]:
        setting, (names, negatives, templates, *rest) = setting_of(values)
        min_score, nms_iou, max_detections, one_name_per_place = rest
        shown = handlers.detect(
            visitor(request),
            setting,
            texts=(names, negatives, templates),
            min_score=min_score,
            nms_iou=nms_iou,
            max_detections=max_detections,
            one_name_per_place=bool(one_name_per_place),
        )
        if shown.files is None:  # those of the boxes that the page still shows stay
            return [shown.notice, changed(shown.picture), *[gr.skip()] * len(downloads)]
        for download, path in zip(downloads, shown.files, strict=True):
            keep_files(download, path)
        buttons = [gr.update(value=str(path), interactive=True) for path in shown.files]
        return [shown.notice, changed(shown.picture), *buttons]

    run_model(
        (button.click, texts[0].submit),
        detect,
        inputs=(*bar.setting, *texts, *options),
        outputs=(notice, picture, *downloads),
    )
    return tab


def _thresholds(first: Beginning) -> Wired:
    return (
        slider(MIN_SCORE, first.min_score, elem_id="detect-min-score"),
        slider(NMS_IOU, first.nms_iou, elem_id="detect-nms-iou"),
        slider(MAX_BOXES, 100, elem_id="detect-max-boxes"),
        gr.Checkbox(
            True,
            label="One name per place",
            info="Of boxes that overlap by half, whatever their names, only the best",
        ),
    )


def _name_tab(handlers: Handlers, bar: Bar, first: Beginning) -> Tab:
    with gr.Row():
        with gr.Column(scale=3, min_width=360):
            gr.Markdown("Draw a box with the mouse pressed: what is in it, and where is its like?")
            notice, picture = _html("name-notice"), _picture("name-picture")
            with gr.Accordion("Names to choose from", open=True):
                texts = _texts(first, "name")
                again = gr.Button("Look again", elem_id="name-button")
                nearest = slider(NUM_NEAREST, NEAREST_AT_FIRST, elem_id="nearest")
        with gr.Column(scale=2, min_width=300):
            results = _html("name-results")

    def name(
        request: gr.Request, event: gr.EventData, progress: Any = PROGRESS, *values: Any
    ) -> list[Any]:
        setting, (names, negatives, templates, num_nearest) = setting_of(values)
        shown = handlers.name(
            visitor(request),
            setting,
            drawn=drawn_box(event),
            texts=(names, negatives, templates),
            num_nearest=num_nearest,
            step=partial(tell, progress),
        )
        return [shown.notice, changed(shown.picture), shown.results]

    tab = Tab(notice, picture, results, names=texts[0])
    run_model(
        (picture.drawn, again.click, texts[0].submit, nearest.release),
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
            alike = slider(MIN_SIMILARITY, ALIKE_AT_FIRST, elem_id="alike")
        with gr.Column(scale=3, min_width=360):
            results = _html("find-results")

    def find(
        request: gr.Request, event: gr.EventData, progress: Any = PROGRESS, *values: Any
    ) -> list[Any]:
        setting, (min_similarity,) = setting_of(values)
        shown = handlers.find(
            visitor(request),
            setting,
            drawn=drawn_box(event),
            min_similarity=min_similarity,
            step=partial(tell, progress),
        )
        return [shown.notice, changed(shown.picture), shown.results]

    run_model(
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
                label="A phrase",
                placeholder="a red umbrella",
                max_length=MAX_PHRASE,
                elem_id="phrase",
            )
            templates = gr.Dropdown(
                list(TEMPLATES), value="photo", allow_custom_value=True, label="Prompts"
            )
            button = gr.Button("Show where", variant="primary", elem_id="heat-button")
        with gr.Column(scale=3, min_width=360):
            notice, picture = _html("heat-notice"), _picture("heat-picture")

    def heat(request: gr.Request, progress: Any = PROGRESS, *values: Any) -> list[Any]:
        setting, (text, prompts) = setting_of(values)
        shown = handlers.heat(
            visitor(request),
            setting,
            phrase=text,
            templates=prompts,
            step=partial(tell, progress),
        )
        return [shown.notice, changed(shown.picture)]

    run_model(
        (button.click, phrase.submit),
        heat,
        inputs=(*bar.setting, phrase, templates),
        outputs=(notice, picture),
    )
    return Tab(notice, picture, notice)
