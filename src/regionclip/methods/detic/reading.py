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
from regionclip.encoders.clip_weights import complete_clip
from regionclip.proposals.rpn_files import load_trunk

from .config import DeticConfig
from .model import Detic, build
from .weights import TAG_ROWS, is_original, map_weights

METHOD = "detic"
_TEXT = "encoder.clip."
_LAYER4 = "layer4."
_OF_CAPTIONS = ("caption_bias", "tag_bias")
"""Tensors that detectors trained without captions or without tags do not have."""


ReadDetic = ReadWithText[Detic]


def is_detic_file(path: str | Path, state: Mapping[str, Tensor]) -> bool:
    """Whether a file is such a detector, an original or our own.

    Args:
        path: The file.
        state: Its tensors, as :func:`~regionclip.checkpoints.read_checkpoint` returns them.
    """
    return own_method(path) == METHOD if is_native(path) else is_original(state)


def read_model(path: str | Path, state: Mapping[str, Tensor] | None = None) -> ReadDetic:
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
        config = own_config(path, DeticConfig, method=METHOD, title="Detic")
    else:
        config, state = map_weights(state, source=str(path))
        notes = (note_on_counted_names(str(path), config.num_classes, config.class_names),)
        state = _with_logit_scale(state)
    with WithoutRandomWeights():
        model = build(config)
    text = text_names(model)
    has_text_tower = any(name in state for name in text)
    report = load_strict(
        model,
        state,
        source=str(path),
        target="Detic",
        allowed_missing=_OF_CAPTIONS if has_text_tower else (*_OF_CAPTIONS, *text),
        allowed_left_over=(TAG_ROWS,),
        notes=notes,
    )
    return ReadWithText(model, has_text_tower, report)


def save_model(
    path: str | Path, model: Detic, *, has_text_tower: bool = True, **extra: str
) -> None:
    """Write a model in the package's own format, with all that is needed to build it again.

    Args:
        path: A ``.safetensors`` file.
        model: The model.
        has_text_tower: Whether its text tower is one; else what stands there is left out.
        **extra: Further metadata, such as ``licence``.
    """
    left_out = () if has_text_tower else text_names(model)
    save_own(path, model, method=METHOD, left_out=left_out, extra=extra)


def text_names(model: Detic) -> tuple[str, ...]:
    """Names of the tensors of the text tower."""
    return tuple(name for name in model.state_dict() if name.startswith(_TEXT))


def _with_logit_scale(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The original keeps the parts of the text tower that texts go through, no scale."""
    text = {
        name.removeprefix(_TEXT): each for name, each in state.items() if name.startswith(_TEXT)
    }
    return {**state, **{_TEXT + name: each for name, each in complete_clip(text).items()}}


def load_resnet(model: Detic, path: str | Path) -> None:
    """Fill a model's image trunk and layer4 with a ResNet's weights, by torchvision's names.

    Args:
        model: New.
        path: A state dict of a torchvision ResNet; its classifier is left over.

    Raises:
        CheckpointError: The file lacks tensors, or they are of another shape.
    """
    load_trunk(model.proposer, path)
    state = read_checkpoint(path)
    own = {
        name.removeprefix(_LAYER4): each for name, each in state.items() if name.startswith(_LAYER4)
    }
    load_strict(model.region_stage, own, source=str(path), target="Detic's layer4")
