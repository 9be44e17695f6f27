"""From the encoders of RegionCLIP's zero-shot branch to a detector of given or proposed boxes."""

from pathlib import Path

import torch

from regionclip.checkpoints import WithoutRandomWeights
from regionclip.detect import DetectOptions, Detector, DetectorParts
from regionclip.encoders.mean_clip import MEAN_SPECS, MeanClip, MeanClipSpec
from regionclip.encoders.mean_clip_weights import read_mean_clip
from regionclip.encoders.text import UnitPrompts
from regionclip.proposals.proposer import Proposer
from regionclip.regions.mean_regions import MeanRegions
from regionclip.scoring.classes_only import ClassesOnly


def load_mean_clip(
    path: str | Path,
    architecture: str,
    *,
    device: str = "cpu",
    proposer: Proposer | None = None,
    dtype: torch.dtype = torch.float32,
) -> Detector:
    """Make a detector of a file of the branch; no such file was ever released.

    Args:
        path: The file.
        architecture: A key of :data:`~regionclip.encoders.mean_clip.MEAN_SPECS`: no file tells its
            attention heads.
        device: As PyTorch names it.
        proposer: Where boxes come from, unless they are given.
        dtype: What the image tower computes in.

    Raises:
        ValueError: The architecture is unknown, or the file is of another.
    """
    if architecture not in MEAN_SPECS:
        raise ValueError(
            f"unknown architecture {architecture!r}; expected one of {', '.join(MEAN_SPECS)}"
        )
    with WithoutRandomWeights():
        model = build_mean_clip(MEAN_SPECS[architecture])
    read_mean_clip(path, model)
    return mean_clip_detector_of(model.to(device), proposer=proposer, dtype=dtype)


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
