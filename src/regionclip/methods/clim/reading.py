"""From a checkpoint file, original or our own, to a filled model."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from torch import Tensor

from regionclip.checkpoints import CheckpointError, is_native, read_checkpoint
from regionclip.checkpoints.own_models import Filled, filled, own_config, own_method, save_own
from regionclip.encoders.vit_weights import (
    Activation,
    is_clip_vit,
    round_as_openai,
    told_activation,
)

from .config import ClimConfig
from .model import Clim, build
from .weights import is_clip, map_weights

METHOD = "clim"
UNTOLD_ACTIVATION = (
    "{path} does not say whether its towers were trained with QuickGELU or GELU; QuickGELU is "
    "taken, OpenAI's and CLIM's. Say activation 'gelu' for weights of open_clip that have it, or "
    "'quick_gelu' if this is right"
)
"""The note on a file whose activation nothing tells."""
Rounding = Literal["none", "openai"]


def is_clim_file(path: str | Path, state: Mapping[str, Tensor]) -> bool:
    """Whether a file is our own of this method, or a CLIP with a vision transformer.

    CLIM's files are no others than OpenAI's; of a ResNet the reader has to say that it is meant.

    Args:
        path: The file.
        state: Its tensors, as :func:`~regionclip.checkpoints.read_checkpoint` returns them.
    """
    return own_method(path) == METHOD if is_native(path) else is_clip_vit(state)


def read_model(
    path: str | Path,
    state: Mapping[str, Tensor] | None = None,
    *,
    activation: Activation | None = None,
    rounding: Rounding = "none",
) -> Filled[Clim]:
    """Read a model from a released file or our own; it loads whole or not at all.

    Released files are CLIM's training checkpoints (weights beside optimizer and counters, or
    stripped of these), OpenAI's archives, and open_clip's files of the same architectures.

    Args:
        path: The file.
        state: Its tensors, from a caller that has read them.
        activation: What the towers of a file with a vision transformer compute with, whatever it
            says; ``None``: what it says. Our own files and OpenAI's archives say it, others do
            not: CLIM's have QuickGELU, most of open_clip's GELU. Those are read with QuickGELU,
            and a note in the report says so. CLIM's published detectors run QuickGELU's weights
            with GELU.
        rounding: ``openai``: to what float16 holds, as OpenAI's loaders do to any file; see
            :func:`~regionclip.encoders.vit_weights.round_as_openai`.

    Raises:
        CheckpointError: The file is unreadable, no CLIP with both towers, or incomplete, or an
            activation was given for a ResNet.
    """
    path = Path(path)
    state = read_checkpoint(path) if state is None else state
    told, notes = activation, ()
    if is_native(path):
        config = own_config(path, ClimConfig, method=METHOD, title="CLIM")
    elif is_clip(state):
        told = told or told_activation(state)
        config, state = map_weights(state, source=str(path), activation=told or "quick_gelu")
        if told is None and config.vit is not None:
            notes = (UNTOLD_ACTIVATION.format(path=path),)
    else:
        raise CheckpointError(
            f"{path} is no CLIP of OpenAI's layout with image and text tower: {len(state)} "
            f"tensors, the first named {next(iter(state))!r}"
        )
    if activation is not None:
        config = _with_activation(config, activation, path)
    target = f"CLIP {config.encoder.name}"
    read = filled(build, config, state, source=path, target=target, notes=notes)
    if rounding == "openai":
        round_as_openai(read.model)
    return read


def _with_activation(config: ClimConfig, activation: Activation, path: Path) -> ClimConfig:
    if config.vit is None:
        raise CheckpointError(
            f"{path} is a CLIP with a ResNet, whose activations are known; leave out activation"
        )
    return replace(config, vit=replace(config.vit, quick_gelu=activation == "quick_gelu"))


def save_model(path: str | Path, model: Clim, **extra: str) -> None:
    """Write a model in the package's own format, with all that is needed to build it again.

    Args:
        path: A ``.safetensors`` file.
        model: The model.
        **extra: Further metadata, such as ``licence``.
    """
    save_own(path, model, method=METHOD, extra=extra)
