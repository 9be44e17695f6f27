"""From a checkpoint file of a cascade, original or our own, to a filled model, and back."""

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

from .cascade_config import CascadeConfig
from .cascade_model import CascadeDetic, build_cascade
from .cascade_weights import is_original, is_training_only, map_weights

METHOD = "detic-cascade"
_TEXT = "encoder.clip."


ReadCascade = ReadWithText[CascadeDetic]


def is_cascade_file(path: str | Path, state: Mapping[str, Tensor]) -> bool:
    """Whether a file is such a detector, an original or our own.

    Args:
        path: The file.
        state: Its tensors, as :func:`~regionclip.checkpoints.read_checkpoint` returns them.
    """
    return own_method(path) == METHOD if is_native(path) else is_original(state)


def read_cascade(path: str | Path, state: Mapping[str, Tensor] | None = None) -> ReadCascade:
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
        config = own_config(path, CascadeConfig, method=METHOD, title="a Detic with a cascade")
    else:
        config, state = map_weights(state, source=str(path))
        notes = (note_on_counted_names(str(path), config.num_classes, config.class_names),)
    with WithoutRandomWeights():
        model = build_cascade(config)
    has_text_tower = any(name.startswith(_TEXT) for name in state)
    report = load_strict(
        model,
        state,
        source=str(path),
        target="Detic with a cascade",
        allowed_missing=() if has_text_tower else (_TEXT,),
        allowed_left_over=[name for name in state if is_training_only(name)],
        notes=notes,
    )
    return ReadWithText(model, has_text_tower, report)


def save_cascade(
    path: str | Path, model: CascadeDetic, *, has_text_tower: bool = True, **extra: str
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


def load_backbone(model: CascadeDetic, path: str | Path) -> None:
    """Fill a model's ResNet with weights by torchvision's names.

    Args:
        model: New.
        path: A state dict of a torchvision ResNet; its classifier is left over.

    Raises:
        CheckpointError: The file lacks tensors, or they are of another shape.
    """
    state = read_checkpoint(path)
    target = "the ResNet of a Detic with a cascade"
    load_strict(model.backbone, state, source=str(path), target=target, allowed_left_over=("fc.",))


def text_names(model: CascadeDetic) -> tuple[str, ...]:
    """Names of the tensors of the text tower."""
    return tuple(name for name in model.state_dict() if name.startswith(_TEXT))
