"""From a checkpoint file, original or our own, to a filled model, and back."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from regionclip.checkpoints import (
    WithoutRandomWeights,
    is_native,
    load_strict,
    read_checkpoint,
)
from regionclip.checkpoints.own_models import ReadWithText, own_config, own_method, save_own
from regionclip.concepts.class_names import note_on_counted_names

from .config import FvitConfig
from .model import Fvit, build
from .weights import UNUSED, is_original, map_weights

METHOD = "fvit"


ReadFvit = ReadWithText[Fvit]


def is_fvit_file(path: str | Path, state: Mapping[str, Tensor]) -> bool:
    """Whether a file is such a detector, an original or our own.

    Args:
        path: The file.
        state: Its tensors, as :func:`~regionclip.checkpoints.read_checkpoint` returns them.
    """
    return own_method(path) == METHOD if is_native(path) else is_original(state)


def read_model(path: str | Path, state: Mapping[str, Tensor] | None = None) -> ReadFvit:
    """Read a detector from an original file or our own; it loads whole or not at all.

    Args:
        path: The file.
        state: Its tensors, from a caller that has read them.

    Raises:
        CheckpointError: The file is unreadable, no such detector, or incomplete.
    """
    path = Path(path)
    state = read_checkpoint(path) if state is None else state
    notes: tuple[str, ...] = ()
    if is_native(path):
        config = own_config(path, FvitConfig, method=METHOD, title="F-ViT")
    else:
        config, state = map_weights(state, source=str(path))
        notes = (note_on_counted_names(str(path), config.num_classes, config.class_names),)
    with WithoutRandomWeights():
        model = build(config)
    text = text_names(model)
    has_text_tower = any(name in state for name in text)
    report = load_strict(
        model,
        state,
        source=str(path),
        target=f"F-ViT on {model.tower.name}",
        allowed_missing=() if has_text_tower else text,
        allowed_left_over=(UNUSED,),
        notes=notes,
    )
    return ReadWithText(model, has_text_tower, report)


def save_model(path: str | Path, model: Fvit, *, has_text_tower: bool = True, **extra: str) -> None:
    """Write a model in the package's own format, with all that is needed to build it again.

    Args:
        path: A ``.safetensors`` file.
        model: The model.
        has_text_tower: Whether its text tower is one; else what stands there is left out.
        **extra: Further metadata, such as ``licence``.
    """
    left_out = () if has_text_tower else text_names(model)
    save_own(path, model, method=METHOD, left_out=left_out, extra=extra)


def text_names(model: Fvit) -> tuple[str, ...]:
    """Names of the tensors of the text tower, and of what belongs to neither tower."""
    return tuple(
        name
        for name in model.state_dict()
        if name.startswith("encoder.") and ".visual." not in name
    )
