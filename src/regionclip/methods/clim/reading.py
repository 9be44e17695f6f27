"""From a checkpoint file, original or our own, to a filled model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from regionclip.checkpoints import (
    CheckpointError,
    LoadReport,
    is_native,
    load_strict,
    read_checkpoint,
    read_native_metadata,
    save_native,
)
from regionclip.encoders.vit_weights import Activation, is_clip_vit, round_as_openai
from regionclip.settings import settings_from, settings_to_dict

from .config import ClimConfig
from .model import Clim, build
from .weights import is_clip, map_weights

METHOD = "clim"
Rounding = Literal["none", "openai"]


@dataclass(frozen=True, slots=True)
class ReadClim:
    """A model and what became of its file.

    Attributes:
        model: Filled, in ``eval`` mode.
        report: What was loaded.
    """

    model: Clim
    report: LoadReport


def is_clim_file(path: str | Path, state: Mapping[str, Tensor]) -> bool:
    """Whether a file is our own of this method, or a CLIP with a vision transformer.

    CLIM's files are no others than OpenAI's; of a ResNet the reader has to say that it is meant.

    Args:
        path: The file.
        state: Its tensors, as :func:`~regionclip.checkpoints.read_checkpoint` returns them.
    """
    if is_native(path):
        return read_native_metadata(path).method == METHOD
    return is_clip_vit(state)


def read_model(
    path: str | Path,
    state: Mapping[str, Tensor] | None = None,
    *,
    activation: Activation = "quick_gelu",
    rounding: Rounding = "none",
) -> ReadClim:
    """Read a model from a released file or our own; it loads whole or not at all.

    Released files are CLIM's training checkpoints (weights beside optimizer and counters, or
    stripped of these), OpenAI's archives, and open_clip's files of the same architectures.

    Args:
        path: The file.
        state: Its tensors, from a caller that has read them.
        activation: What the towers of a released file with a vision transformer compute with,
            which none says: OpenAI's and CLIM's QuickGELU, most of open_clip's GELU. CLIM's
            published detectors run QuickGELU's weights with GELU.
        rounding: ``openai``: to what float16 holds, as OpenAI's loaders do to any file; see
            :func:`~regionclip.encoders.vit_weights.round_as_openai`.

    Raises:
        CheckpointError: The file is unreadable, no CLIP with both towers, or incomplete.
    """
    path = Path(path)
    state = read_checkpoint(path) if state is None else state
    if is_native(path):
        metadata = read_native_metadata(path)
        if metadata.method != METHOD:
            raise CheckpointError(f"{path} is a model of {metadata.method!r}, not of CLIM")
        config = settings_from(ClimConfig, metadata.config, source=str(path))
    elif is_clip(state):
        config, state = map_weights(state, source=str(path), activation=activation)
    else:
        raise CheckpointError(
            f"{path} is no CLIP of OpenAI's layout with image and text tower: {len(state)} "
            f"tensors, the first named {next(iter(state))!r}"
        )
    model = build(config)
    report = load_strict(model, state, source=str(path), target=f"CLIP {config.encoder.name}")
    if rounding == "openai":
        round_as_openai(model)
    return ReadClim(model, report)


def save_model(path: str | Path, model: Clim, **extra: str) -> None:
    """Write a model in the package's own format, with all that is needed to build it again.

    Args:
        path: A ``.safetensors`` file.
        model: The model.
        **extra: Further metadata, such as ``licence``.
    """
    save_native(
        path,
        model.state_dict(),
        method=METHOD,
        config=settings_to_dict(model.config),
        encoder_id=model.encoder.encoder_id,
        extra=extra,
    )
