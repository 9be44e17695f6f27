"""From the encoders of RegionCLIP's zero-shot branch to a detector of given or proposed boxes."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from regionclip.checkpoints import (
    WithoutRandomWeights,
    is_native,
    load_strict,
    read_checkpoint,
    save_native,
)
from regionclip.checkpoints.own_models import Filled, own_config, own_method
from regionclip.detect import DetectOptions, Detector, DetectorParts
from regionclip.encoders.mean_clip import MeanClip, MeanClipSpec
from regionclip.encoders.mean_clip_weights import is_mean_clip, mean_clip_tensors, mean_spec_of
from regionclip.encoders.text import UnitPrompts
from regionclip.loading.request import FileKind, LoadRequest, OpenFile
from regionclip.proposals.proposer import Proposer
from regionclip.regions.mean_regions import MeanRegions
from regionclip.scoring.classes_only import ClassesOnly
from regionclip.settings import settings_to_dict

METHOD = "mean-clip"
"""In our own files, beside the methods' names."""


def is_mean_clip_file(path: str | Path, state: Mapping[str, Tensor]) -> bool:
    """Whether a file is such an encoder, of the branch's layout or our own.

    Args:
        path: The file.
        state: Its tensors, as :func:`~regionclip.checkpoints.read_checkpoint` returns them.
    """
    return own_method(path) == METHOD if is_native(path) else is_mean_clip(state)


def read_model(path: str | Path, state: Mapping[str, Tensor] | None = None) -> Filled[MeanClip]:
    """Read an encoder from a file of the branch or our own; no file of the branch was released.

    Args:
        path: The file.
        state: Its tensors, from a caller that has read them.

    Raises:
        CheckpointError: The file is unreadable, no such encoder, or of other sizes than the
            branch's encoder of its kind.
    """
    path = Path(path)
    state = read_checkpoint(path) if state is None else state
    is_own = is_native(path)
    if is_own:
        spec = own_config(path, MeanClipSpec, method=METHOD, title="RegionCLIP's zero-shot branch")
    else:
        spec = mean_spec_of(state, source=str(path))
    with WithoutRandomWeights():
        model = build_mean_clip(spec)
    tensors = state if is_own else mean_clip_tensors(model, state, source=str(path))
    return Filled(model, load_strict(model, tensors, source=str(path), target=spec.name))


def save_model(path: str | Path, model: MeanClip, **extra: str) -> None:
    """Write an encoder in the package's own format, with all that is needed to build it again.

    Args:
        path: A ``.safetensors`` file.
        model: The encoder.
        **extra: Further metadata, such as ``licence``.
    """
    save_native(
        path,
        model.state_dict(),
        method=METHOD,
        config=settings_to_dict(model.spec),
        encoder_id=model.encoder_id,
        extra=extra,
    )


def _open(file: OpenFile, request: LoadRequest) -> Detector:
    request.refuse_text_weights("runs with its own text tower")
    request.refuse_region_prompt()
    if request.regions != "map":
        raise ValueError(
            f"{request.name} has regions of its map alone, which are means of cells; leave out "
            f"regions={request.regions!r}"
        )
    model = read_model(file.path, file.state).model.to(request.device)
    return mean_clip_detector_of(model, proposer=request.proposer, dtype=request.dtype)


MEAN_CLIP = FileKind(lambda file, _request: is_mean_clip_file(file.path, file.state), _open)


def build_mean_clip(spec: MeanClipSpec) -> MeanClip:
    """Random weights, in ``eval`` mode, frozen, ready for a checkpoint."""
    return MeanClip(spec).eval().requires_grad_(False)


def mean_clip_detector_of(
    model: MeanClip, *, proposer: Proposer | None = None, dtype: torch.dtype = torch.float32
) -> Detector:
    """A detector that gives each box to one of the classes; the weights are shared, not copied.

    Args:
        model: On the device to detect on, frozen.
        proposer: Where boxes come from, unless they are given.
        dtype: What the image tower computes in.
    """
    temperature = float((-model.clip.logit_scale).exp())
    parts = DetectorParts(
        encoder=UnitPrompts(model),
        regions=MeanRegions(model, dtype=dtype),
        proposer=proposer,
        scorer=ClassesOnly(temperature=temperature),
        templates="name-and-photo",
        temperature=temperature,
        crop_tower=model,
    )
    return Detector(parts, DetectOptions(objectness_fusion="none"))
