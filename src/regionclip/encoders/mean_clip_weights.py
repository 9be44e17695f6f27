"""Files of RegionCLIP's zero-shot branch, whose names are mapped to :class:`.MeanClip`'s."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from timm.models import davit, focalnet, swin_transformer
from torch import Tensor

from regionclip.checkpoints import CheckpointError

from .mean_clip import MEAN_SPECS, MeanClip, MeanClipSpec, Trunk
from .vit_blocks import resized_positions

_HEAD = "roi_heads.box_predictor.lang_encoder."
_PLACES = (
    ("image_encoder.", "clip.visual."),
    ("backbone.", "clip.visual."),
    (f"{_HEAD}lang_encoder.", "clip."),
    (f"{_HEAD}lang_proj", "clip.text_projection"),
    (f"{_HEAD}logit_scale", "clip.logit_scale"),
    ("text_encoder.", "clip."),
    ("lang_encoder.lang_encoder.", "clip."),
    ("lang_encoder.lang_proj", "clip.text_projection"),
    ("lang_encoder.logit_scale", "clip.logit_scale"),
    ("lang_encoder.", "clip."),
    ("lang_projection", "clip.text_projection"),
    ("text_projection", "clip.text_projection"),
    ("logit_scale", "clip.logit_scale"),
    ("norm.", "norm."),
    ("image_projection", "image_projection"),
)
"""Beginning of a name in a file, and in :class:`.MeanClip`; the first that fits.

Source:
    microsoft/RegionCLIP, branch ``zero-shot``: keys are mapped as its loader maps them.
"""
PROJECTION = "image_projection"
"""What no other file of a CLIP has under this name."""
_TELLING: dict[Trunk, str] = {
    "vit": ".cls_token",
    "swin": ".relative_position_bias_table",
    "davit": ".cpe",
    "focalnet": ".modulation.",
}
"""Part of a tensor's name that only one kind of tower has, in its authors' layout and in timm's."""
_TRUNK = "clip.visual."
_POSITIONS = f"{_TRUNK}pos_embed"
_NORM = f"{_TRUNK}norm."

_FILTERS: dict[Trunk, Callable[[dict[str, Tensor], Any], dict[str, Tensor]]] = {
    "swin": swin_transformer.checkpoint_filter_fn,
    "davit": davit.checkpoint_filter_fn,
    "focalnet": focalnet.checkpoint_filter_fn,
}
"""Timm's own, from the layouts that these towers' authors release to timm's."""


def is_mean_clip(state: Mapping[str, Tensor]) -> bool:
    """Whether a file is an encoder of the branch."""
    return PROJECTION in state


def mean_spec_of(state: Mapping[str, Tensor], *, source: str) -> MeanClipSpec:
    """The architecture of a file: names tell the kind of tower, and the branch has one of each.

    Its sizes are checked when the tensors are loaded. Attention heads, and whether a text is read
    from both sides, are in no tensor: they are those of the branch's configurations.

    Args:
        state: As :func:`~regionclip.checkpoints.read_checkpoint` returns it.
        source: How errors call the file.

    Raises:
        CheckpointError: Its image tower is none of the branch's.
    """
    for spec in MEAN_SPECS.values():
        if any(_TELLING[spec.trunk] in name for name in state):
            return spec
    raise CheckpointError(
        f"{source} has an {PROJECTION!r}, as encoders of RegionCLIP's zero-shot branch have, and "
        f"an image tower that is none of theirs; expected one of {', '.join(MEAN_SPECS)}"
    )


def mean_clip_tensors(
    model: MeanClip, state: Mapping[str, Tensor], *, source: str
) -> dict[str, Tensor]:
    """The tensors of a file by a model's names.

    Args:
        model: Built for the file's architecture.
        state: As :func:`~regionclip.checkpoints.read_checkpoint` returns it.
        source: How errors call the file.

    Returns:
        As they are in the file, but for a ViT's positions, which are resized to the model's grid.

    Raises:
        CheckpointError: Two tensors of the file have one name here.
    """
    tensors: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = _our_name(key, is_vit=model.spec.trunk == "vit")
        if name in tensors:
            raise CheckpointError(f"{source} has {name} under two names, one of them {key}")
        tensors[name] = tensor
    convert = _FILTERS.get(model.spec.trunk)
    if convert is None:
        return tensors | _on_grid_of(model, tensors)
    trunk = {name.removeprefix(_TRUNK): each for name, each in tensors.items() if _in(name)}
    rest = {name: each for name, each in tensors.items() if not _in(name)}
    converted = convert(trunk, model.clip.get_submodule("visual"))
    return rest | {_TRUNK + name: each for name, each in converted.items()}


def _on_grid_of(model: MeanClip, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A ViT's positions, of any square grid, for the grid that the model has.

    Source:
        microsoft/RegionCLIP, branch ``zero-shot``: its loader resizes them bicubically.
    """
    positions = tensors.get(_POSITIONS)
    if positions is None or positions.ndim != 3:
        return {}
    side, wanted = math.isqrt(positions.shape[1] - 1), model.spec.image_size // model.cell
    if side * side != positions.shape[1] - 1 or side == wanted:
        return {}
    resized = resized_positions(positions[0].float(), (side, side), (wanted, wanted))
    return {_POSITIONS: resized[None]}


def _in(name: str) -> bool:
    return name.startswith(_TRUNK)


def _our_name(key: str, *, is_vit: bool) -> str:
    for beginning, ours in _PLACES:
        if key.startswith(beginning):
            name = ours + key.removeprefix(beginning)
            break
    else:
        return key
    # a ViT's last norm is for patches, the others' for means
    if is_vit and name.startswith(("norm.", _NORM)):
        return f"{_TRUNK}fc_norm.{name.rpartition('.')[2]}"
    return name.replace(_NORM, "norm.") if name.startswith(_NORM) else name
