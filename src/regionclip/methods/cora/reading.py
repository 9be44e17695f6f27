"""From a checkpoint file, original or our own, to a filled model; region prompts in and out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from regionclip.checkpoints import (
    CheckpointError,
    NativeMetadata,
    is_native,
    read_checkpoint,
    read_native_metadata,
    read_training_settings,
)
from regionclip.checkpoints.own_models import Filled, filled, own_config, own_method, save_own
from regionclip.encoders.clip_resnet import ClipResNet
from regionclip.whole_files import replacing

from .config import CoraConfig
from .model import Cora, build
from .weights import PROMPT, PROMPT_KEYS, CoraCheckpoint, is_cora, map_weights

METHOD = "cora"


def is_cora_file(path: str | Path, state: Mapping[str, Tensor]) -> bool:
    """Whether a file is a CORA detector, upstream's or our own.

    Args:
        path: The file.
        state: Its tensors, as :func:`~regionclip.checkpoints.read_checkpoint` returns them.
    """
    return own_method(path) == METHOD if is_native(path) else is_cora(state)


def read_model(path: str | Path, state: Mapping[str, Tensor] | None = None) -> Filled[Cora]:
    """Read a detector from upstream's file or our own; it loads whole or not at all.

    Of an original with averaged weights (``model_ema``) these are read, as upstream evaluates.

    Args:
        path: The file.
        state: Its tensors, from a caller that has read them.

    Raises:
        CheckpointError: The file is unreadable, no CORA detector, or incomplete.
    """
    path = Path(path)
    state = read_checkpoint(path) if state is None else state
    if is_native(path):
        config = own_config(path, CoraConfig, method=METHOD, title="CORA")
    else:
        found = _original(path, state)
        config, state = found.config, found.tensors
    return filled(build, config, state, source=path, target=f"CORA {config.encoder.name}")


def read_config(path: str | Path, state: Mapping[str, Tensor]) -> CoraConfig:
    """What an original detector's file says of the detector.

    Args:
        path: The file.
        state: Its tensors.

    Raises:
        CheckpointError: It is no CORA detector, or one with parts that are not supported.
    """
    return _original(Path(path), state).config


def _original(path: Path, state: Mapping[str, Tensor]) -> CoraCheckpoint:
    dataset = str(read_training_settings(path).get("dataset_file"))
    return map_weights(state, source=str(path), dataset=dataset)


def save_model(path: str | Path, model: Cora, **extra: str) -> None:
    """Write a model in the package's own format, with all that is needed to build it again.

    Args:
        path: A ``.safetensors`` file.
        model: The model.
        **extra: Further metadata, such as ``licence``.
    """
    save_own(path, model, method=METHOD, extra=extra)


def read_region_prompt(path: str | Path) -> Float[Tensor, "T F"]:
    """Read a region prompt from the original's file of one tensor, or from a whole checkpoint.

    Args:
        path: Upstream's ``region_prompt_*.pth``, a checkpoint of its prompt training, a CORA
            detector of either form, or the CLIP that our training of a prompt leaves.

    Raises:
        CheckpointError: The file is unreadable or holds no region prompt.
    """
    state = read_checkpoint(path)
    holder = f"{len(state)} tensors, the first named {next(iter(state))!r}"
    keys = PROMPT_KEYS
    if is_native(path):
        metadata = read_native_metadata(path)
        keys = (PROMPT,) if _has_region_prompt(metadata) else ()
        holder = f"a model of {metadata.method!r} in this package's form"
    for key in keys:
        if key in state and state[key].ndim == 2:
            return state[key].float()
    raise CheckpointError(
        f"{path} holds no region prompt: expected one tensor {PROMPT_KEYS[0]!r}, a CORA "
        f"checkpoint, or what the region prompt's training leaves; got {holder}"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptConditions:
    """How images and names were seen when a region prompt was trained.

    Images were resized as DETR does, and boxes lay on the map by their share of the image's sides.

    Attributes:
        shortest_side: Pixels of an image's shorter side.
        longest_side: Most pixels of its longer side.
        templates: Built-in prompts that names were put into.
        text_length: Tokens of a prompt, start and end included; ``None`` for all.
    """

    shortest_side: int
    longest_side: int
    templates: str
    text_length: int | None


def read_prompt_conditions(path: str | Path) -> PromptConditions | None:
    """What a region prompt's file says of its training.

    Args:
        path: A file that :func:`read_region_prompt` reads.

    Returns:
        ``None`` for the original's forms, which say nothing.
    """
    if not is_native(path):
        return None
    config = read_native_metadata(path).config
    return PromptConditions(
        shortest_side=config["shortest_side"],
        longest_side=config["longest_side"],
        templates=config["templates"],
        text_length=config["text_length"],
    )


def _has_region_prompt(metadata: NativeMetadata) -> bool:
    """A CORA detector, or a CLIP whose training of a region prompt its configuration tells."""
    is_trained_clip = metadata.config.get("box_scale") == "share"
    return metadata.method == METHOD or (metadata.method == "regionclip" and is_trained_clip)


def save_region_prompt(path: str | Path, prompt: Float[Tensor, "T F"]) -> None:
    """Write a region prompt as the original does: a dictionary of one tensor."""
    with replacing(Path(path)) as partial:
        torch.save({PROMPT_KEYS[0]: prompt.detach().float().cpu().clone()}, partial)


def set_region_prompt(
    encoder: ClipResNet, prompt: Float[Tensor, "T F"], *, source: str = "the region prompt"
) -> None:
    """Let an image tower, in place, pool regions by a region prompt.

    Whole images are pooled by it from then on, too, for which it was not trained.

    Args:
        encoder: Any CLIP with a ModifiedResNet.
        prompt: One row for the mean of the cells, then one per cell, row by row.
        source: How errors call it.

    Raises:
        CheckpointError: It is of another size.
    """
    positions = encoder.visual.attnpool.positional_embedding
    if prompt.shape != positions.shape:
        raise CheckpointError(
            f"{source} is of shape {tuple(prompt.shape)}, and {encoder.spec.name} takes "
            f"{tuple(positions.shape)}; is it one of another architecture?"
        )
    with torch.no_grad():
        positions.copy_(prompt)
