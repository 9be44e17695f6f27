"""Files of RegionCLIP's zero-shot branch, whose names are mapped to :class:`.MeanClip`'s."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from timm.models import davit, focalnet, swin_transformer
from torch import Tensor

from regionclip.checkpoints import CheckpointError, LoadReport, load_strict, read_checkpoint

from .mean_clip import MeanClip, Trunk

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
_TRUNK = "clip.visual."
_NORM = f"{_TRUNK}norm."

_FILTERS: dict[Trunk, Callable[[dict[str, Tensor], Any], dict[str, Tensor]]] = {
    "swin": swin_transformer.checkpoint_filter_fn,
    "davit": davit.checkpoint_filter_fn,
    "focalnet": focalnet.checkpoint_filter_fn,
}
"""Timm's own, from the layouts that these towers' authors release to timm's."""


def mean_clip_tensors(
    model: MeanClip, state: Mapping[str, Tensor], *, source: str
) -> dict[str, Tensor]:
    """The tensors of a file by a model's names.

    Args:
        model: Built for the file's architecture.
        state: As :func:`~regionclip.checkpoints.read_checkpoint` returns it.
        source: How errors call the file.

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
        return tensors
    trunk = {name.removeprefix(_TRUNK): each for name, each in tensors.items() if _in(name)}
    rest = {name: each for name, each in tensors.items() if not _in(name)}
    converted = convert(trunk, model.clip.get_submodule("visual"))
    return rest | {_TRUNK + name: each for name, each in converted.items()}


def read_mean_clip(path: str | Path, model: MeanClip) -> LoadReport:
    """Fill a model from a file, whole or not at all.

    Args:
        path: The file.
        model: Built for the file's architecture: heads are in no tensor's shape.

    Raises:
        CheckpointError: The file is unreadable or of another architecture.
    """
    state = read_checkpoint(path)
    tensors = mean_clip_tensors(model, state, source=str(path))
    return load_strict(model, tensors, source=str(path), target=model.spec.name)


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
