"""Between Gradio's events and the handlers. Needs Gradio."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import gradio as gr

from .handlers import Setting
from .inputs import Field
from .sessions import Drawn

MODEL = "model"
"""All that runs a model waits in one line: each takes every core, or the whole GPU."""
PROGRESS = gr.Progress()
"""As a default value it tells Gradio to pass a progress bar of the visitor's."""


def run_model(
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


def as_sent(component: Any) -> Any:
    """A component whose value reaches the handlers as the browser sent it.

    Gradio would check it first, and say little of what is wrong: of an empty field nothing that a
    visitor could understand. A class of one's own would be taken for a component with its own
    script.
    """
    component.preprocess = _unchanged
    return component


def _unchanged(payload: Any) -> Any:
    return payload


def slider(field: Field, value: float | int, *, elem_id: str | None = None) -> gr.Slider:
    """A field as the page shows it."""
    return as_sent(
        gr.Slider(
            field.low,
            field.high,
            value=value,
            step=field.step,
            label=field.label,
            elem_id=elem_id,
        )
    )


def setting_of(values: Sequence[Any]) -> tuple[Setting, Sequence[Any]]:
    """Model, proposals and number of regions, and the inputs that follow."""
    model, proposals, num_regions, *others = values
    return Setting(model=model, proposals=proposals, num_regions=num_regions), others


def changed(value: Any) -> Any:
    """A part of the page that stays as it is, where ``None`` stands for it."""
    return gr.skip() if value is None else value


def drawn_box(event: gr.EventData) -> Drawn | None:
    """The box that was drawn, if that is what happened."""
    data = event._data
    if not isinstance(data, dict) or "box" not in data:
        return None
    return Drawn(data.get("place", -1), data["box"])


def keep_files(button: gr.DownloadButton, path: Path) -> None:
    """Keep a file to take home out of Gradio's deletion by age; it goes with its visitor."""
    kept = {each for each in button.keep_in_cache if Path(each).exists()}
    button.keep_in_cache = kept | {str(path)}


def visitor(request: gr.Request) -> str:
    """A visitor's page: another tab of the browser is another visitor."""
    return request.session_hash or ""


def tell(progress: Any, share: float, text: str) -> None:
    """Show how far things are, from 0 to 1."""
    progress(share, desc=text)
