"""What stands above the tabs, and what it changes in all of them. Needs Gradio."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from .handlers import Handlers, Shown
from .inputs import NUM_REGIONS
from .models import Beginning
from .wiring import as_sent, run_model, slider, visitor

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
        """Inputs that :func:`setting_of` reads."""
        return self.model, self.proposals, self.num_regions


@dataclass(frozen=True, slots=True)
class Tab:
    """What every tab has.

    Attributes:
        notice: A sentence or two.
        picture: With what was found.
        results: Beside it; the notice where there are none.
        downloads: Files to take home.
        names: What to look for.
        thresholds: The lowest score, and the overlap of boxes.
    """

    notice: gr.HTML
    picture: gr.HTML
    results: gr.HTML
    downloads: Wired = ()
    names: gr.Textbox | None = None
    thresholds: Wired = ()


def build_bar(handlers: Handlers, first: Beginning) -> Bar:
    """Upload, pictures, model and regions.

    Args:
        handlers: Know which models there are.
        first: What the first model's fields begin with.
    """
    models = handlers.models
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=280):
            upload = as_sent(
                gr.Image(
                    type="filepath",
                    sources=["upload", "clipboard"],
                    label="Your picture",
                    height=160,
                    placeholder="Drop, paste or choose an image",
                    buttons=[],
                    elem_id="upload",
                )
            )
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
        model = gr.Dropdown(
            short_names(models.names), value=models.names[0], label="Model", elem_id="model"
        )
        proposals = gr.Dropdown(
            short_names(models.proposals),
            value=models.proposals[0],
            label="Where regions come from",
        )
        num_regions = slider(NUM_REGIONS, first.num_regions, elem_id="num-regions")
    return Bar(upload, strip, notice, model, proposals, num_regions)


def short_names(sources: Sequence[str]) -> list[tuple[str, str]]:
    """What stands for each source: of a file its name, unless another file is called the same."""
    plain = [Path(each).name if Path(each).exists() else each for each in sources]
    return [
        (short if plain.count(short) == 1 else source, source)
        for short, source in zip(plain, sources, strict=True)
    ]


def listed(beginning: Beginning) -> str:
    """The names as a visitor would type them."""
    return ", ".join(beginning.names)


def wire_bar(page: gr.Blocks, handlers: Handlers, bar: Bar, tabs: Sequence[Tab]) -> None:
    """What changes the picture changes it in every tab, and empties what was found before."""
    outputs: list[Any] = [bar.upload, bar.strip, bar.notice]
    for tab in tabs:
        outputs += [tab.picture, tab.notice, tab.results, *tab.downloads]
    drawable = [tab.results is not tab.notice for tab in tabs]

    def shows(shown: Shown) -> list[Any]:
        if shown.picture is None:
            return [None, gr.skip(), shown.notice, *[gr.skip()] * (len(outputs) - 3)]
        values: list[Any] = [None, shown.strip, shown.notice]
        for tab, is_drawable in zip(tabs, drawable, strict=True):
            values += [{**shown.picture, "is_drawable": is_drawable}, "", ""]
            values += [gr.update(value=None, interactive=False)] * len(tab.downloads)
        return values

    def begin(request: gr.Request) -> list[Any]:
        return shows(handlers.begin(visitor(request)))

    def upload(request: gr.Request, sent: Any) -> list[Any]:
        return shows(handlers.upload(visitor(request), None if sent is None else sent.path))

    def pick(request: gr.Request, event: gr.EventData) -> list[Any]:
        return shows(handlers.pick(visitor(request), int(event.index)))

    def end(request: gr.Request) -> None:
        handlers.sessions.end(visitor(request))

    hidden = {"outputs": outputs, "show_progress": "hidden", "api_visibility": "private"}
    page.load(begin, None, **hidden)
    bar.upload.upload(upload, bar.upload, **hidden)
    bar.strip.picked(pick, None, **hidden)
    page.unload(end)


def wire_model(handlers: Handlers, bar: Bar, tabs: Sequence[Tab], first: Beginning) -> None:
    """Another model fills its fields anew, but for names that the visitor typed."""
    names = [tab.names for tab in tabs if tab.names is not None]
    thresholds = [each for tab in tabs for each in tab.thresholds]
    filled_in = {listed(first)}

    def choose(request: gr.Request, model: str, *typed: str | None) -> list[Any]:
        shown = handlers.choose(visitor(request), model)
        new = shown.beginning
        if new is None:
            return [shown.notice, *[gr.skip()] * (1 + len(thresholds) + len(names))]
        own = [listed(new) if each in filled_in else gr.skip() for each in typed]
        filled_in.add(listed(new))
        return ["", new.num_regions, new.min_score, new.nms_iou, *own]

    run_model(
        (bar.model.input,),
        choose,
        inputs=(bar.model, *names),
        outputs=(bar.notice, bar.num_regions, *thresholds, *names),
    )
