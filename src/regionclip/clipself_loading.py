"""From CLIPSelf's files, and plain EVA-02 CLIPs, to a detector."""

from dataclasses import replace

import torch

from regionclip.clim_loading import dense_parts
from regionclip.detect import DetectOptions, Detector
from regionclip.loading_request import FileKind, LoadRequest, OpenFile
from regionclip.methods.clipself.model import ClipSelf
from regionclip.methods.clipself.reading import is_clipself_file, read_model
from regionclip.proposals.proposer import Proposer
from regionclip.regions.crops import CropRegions
from regionclip.regions.dense_regions import DenseRegions
from regionclip.regions.embedder import RegionEmbedder, RegionSource
from regionclip.regions.region_head import DEFAULT_MEMORY_BUDGET


def _claims(file: OpenFile, _request: LoadRequest) -> bool:
    return is_clipself_file(file.path, file.state)


def _open(file: OpenFile, request: LoadRequest) -> Detector:
    request.refuse_text_weights("runs with its own text tower")
    request.refuse_region_prompt()
    model = read_model(file.path, file.state).model.to(request.device).requires_grad_(False)
    return clipself_detector_of(
        model,
        proposer=request.proposer,
        regions=request.regions,
        dtype=request.dtype,
        memory_budget=request.memory_budget,
    )


CLIPSELF = FileKind(_claims, _open)


def clipself_detector_of(
    model: ClipSelf,
    *,
    proposer: Proposer | None = None,
    regions: RegionSource = "map",
    dtype: torch.dtype = torch.float32,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
) -> Detector:
    """A detector with the weights of an EVA-02 CLIP, which are shared, not copied.

    Args:
        model: On the device to detect on, frozen.
        proposer: Where boxes come from; the model has none of its own.
        regions: ``map`` or ``dense``, which are the same here, or ``crops``; see
            :func:`regionclip.load`.
        dtype: See :func:`regionclip.load`.
        memory_budget: See :func:`regionclip.load`.

    Raises:
        ValueError: The image tower has no such regions.
    """
    config = model.config
    embedder = _region_embedder(model, regions, dtype=dtype, memory_budget=memory_budget)
    parts = dense_parts(
        model.encoder, embedder, proposer=proposer, longest_side=config.longest_side
    )
    parts = replace(parts, templates=config.templates, temperature=config.temperature)
    return Detector(parts, DetectOptions(selection=config.selection))


def _region_embedder(
    model: ClipSelf, regions: RegionSource, *, dtype: torch.dtype, memory_budget: int
) -> RegionEmbedder:
    encoder, padding = model.encoder, model.config.padding
    if regions == "crops":
        return CropRegions(encoder, dtype=dtype, memory_budget=memory_budget)
    if regions in ("map", "dense"):
        return DenseRegions(encoder, dtype=dtype, memory_budget=memory_budget, padding=padding)
    raise ValueError(
        f"{encoder.spec.name} has no regions {regions!r}; use 'map', 'dense' or 'crops'"
    )
