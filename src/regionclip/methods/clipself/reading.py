"""From a checkpoint file, original or our own, to a filled model."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from regionclip.checkpoints import CheckpointError, is_native, read_checkpoint
from regionclip.checkpoints.own_models import Filled, filled, own_config, own_method, save_own
from regionclip.encoders.eva_weights import is_eva_clip

from .config import ClipSelfConfig
from .model import ClipSelf, build
from .weights import map_weights

METHOD = "clipself"


def is_clipself_file(path: str | Path, state: Mapping[str, Tensor]) -> bool:
    """Whether a file is our own of this method, or any EVA-02 CLIP, trained further or not.

    Args:
        path: The file.
        state: Its tensors, as :func:`~regionclip.checkpoints.read_checkpoint` returns them.
    """
    return own_method(path) == METHOD if is_native(path) else is_eva_clip(state)


def read_model(path: str | Path, state: Mapping[str, Tensor] | None = None) -> Filled[ClipSelf]:
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
        config = own_config(path, ClipSelfConfig, method=METHOD, title="CLIPSelf")
    elif is_eva_clip(state):
        config, state = map_weights(state, source=str(path))
    else:
        raise CheckpointError(
            f"{path} is no EVA-02 CLIP: expected 'visual.blocks.0.attn.inner_attn_ln.weight' among "
            f"its {len(state)} tensors, the first named {next(iter(state))!r}"
        )
    return filled(build, config, state, source=path, target=f"CLIPSelf {config.encoder.name}")


def save_model(path: str | Path, model: ClipSelf, **extra: str) -> None:
    """Write a model in the package's own format, with all that is needed to build it again.

    Args:
        path: A ``.safetensors`` file.
        model: The model.
        **extra: Further metadata, such as ``licence``.
    """
    save_own(path, model, method=METHOD, extra=extra)
