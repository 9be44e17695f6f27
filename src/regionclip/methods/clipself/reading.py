"""From a checkpoint file, original or our own, to a filled model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
from regionclip.encoders.eva_weights import is_eva_clip
from regionclip.settings import settings_from, settings_to_dict

from .config import ClipSelfConfig
from .model import ClipSelf, build
from .weights import map_weights

METHOD = "clipself"


@dataclass(frozen=True, slots=True)
class ReadClipSelf:
    """A model and what became of its file.

    Attributes:
        model: Filled, in ``eval`` mode.
        report: What was loaded.
    """

    model: ClipSelf
    report: LoadReport


def is_clipself_file(path: str | Path, state: Mapping[str, Tensor]) -> bool:
    """Whether a file is our own of this method, or any EVA-02 CLIP, trained further or not.

    Args:
        path: The file.
        state: Its tensors, as :func:`~regionclip.checkpoints.read_checkpoint` returns them.
    """
    if is_native(path):
        return read_native_metadata(path).method == METHOD
    return is_eva_clip(state)


def read_model(path: str | Path, state: Mapping[str, Tensor] | None = None) -> ReadClipSelf:
    """Read a model from a released file or our own; it loads whole or not at all.

    Released files are CLIPSelf's training checkpoints (weights beside optimizer and counters, or
    stripped of these), EVA-CLIP's, in half precision or float, and open_clip's of the same towers.

    Args:
        path: The file.
        state: Its tensors, from a caller that has read them.

    Raises:
        CheckpointError: The file is unreadable, no EVA-02 CLIP with both towers, or incomplete.
    """
    path = Path(path)
    state = read_checkpoint(path) if state is None else state
    if is_native(path):
        metadata = read_native_metadata(path)
        if metadata.method != METHOD:
            raise CheckpointError(f"{path} is a model of {metadata.method!r}, not of CLIPSelf")
        config = settings_from(ClipSelfConfig, metadata.config, source=str(path))
    elif is_eva_clip(state):
        config, state = map_weights(state, source=str(path))
    else:
        raise CheckpointError(
            f"{path} is no EVA-02 CLIP: expected 'visual.blocks.0.attn.inner_attn_ln.weight' among "
            f"its {len(state)} tensors, the first named {next(iter(state))!r}"
        )
    model = build(config)
    report = load_strict(model, state, source=str(path), target=f"CLIPSelf {config.encoder.name}")
    return ReadClipSelf(model, report)


def save_model(path: str | Path, model: ClipSelf, **extra: str) -> None:
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
