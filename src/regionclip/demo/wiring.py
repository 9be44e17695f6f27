"""Between Gradio's events and the handlers. Needs Gradio."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import gradio as gr

from .handlers import Setting

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


def setting_of(values: Sequence[Any]) -> tuple[Setting, Sequence[Any]]:
    """Model, proposals and number of regions, and the inputs that follow."""
    model, proposals, num_regions, *others = values
    setting = Setting(model=model, proposals=proposals, num_regions=int(num_regions))
    return setting, others


def changed(value: Any) -> Any:
    """A part of the page that stays as it is, where ``None`` stands for it."""
    return gr.skip() if value is None else value


def drawn_box(event: gr.EventData) -> list[float] | None:
    """The box that was drawn, if that is what happened."""
    data = event._data
    return data.get("box") if isinstance(data, dict) else None


def visitor(request: gr.Request) -> str:
    """A visitor's page: another tab of the browser is another visitor."""
    return request.session_hash or ""


def tell(progress: Any, share: float, text: str) -> None:
    """Show how far things are, from 0 to 1."""
    progress(share, desc=text)
