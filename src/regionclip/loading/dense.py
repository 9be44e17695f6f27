"""From CLIM's and CLIPSelf's files, and plain CLIPs with a transformer, to a detector."""

import logging
from dataclasses import replace

import torch

from regionclip.data.transforms import Padding
from regionclip.detect import DetectOptions, Detector, DetectorParts
from regionclip.encoders.crop_encoder import CropEncoder
from regionclip.encoders.dense import DenseEncoder
from regionclip.encoders.dense_resnet import DenseClipResNet
from regionclip.encoders.text import TextEncoder, UnitPrompts
from regionclip.encoders.vit import ClipVit
from regionclip.encoders.vit_weights import Activation
from regionclip.loading.request import FileKind, LoadRequest, OpenFile
from regionclip.methods import known_entry
from regionclip.methods.clim import reading as clim
from regionclip.methods.clim.model import Clim
from regionclip.methods.clim.weights import is_clip
from regionclip.methods.clipself import reading as clipself
from regionclip.methods.clipself.model import ClipSelf
from regionclip.proposals.proposer import Proposer
from regionclip.regions.crops import CropRegions
from regionclip.regions.dense_regions import DenseRegions
from regionclip.regions.embedder import RegionEmbedder, RegionSource
from regionclip.regions.layer4_regions import Layer4Regions
from regionclip.regions.mask_attention import MaskAttentionRegions
from regionclip.regions.region_head import DEFAULT_MEMORY_BUDGET

LOGGER = logging.getLogger(__name__)
RESNET_SOURCES = ("dense", "layer4")
"""Regions that tell whom the file of a ResNet is for: it could be RegionCLIP's."""
DENSE_TEMPLATES = "vild63"
"""Built-in prompts of towers with a map: the 63 of CLIM's and CLIPSelf's vocabularies."""


def _is_for_clim(file: OpenFile, request: LoadRequest) -> bool:
    if clim.is_clim_file(file.path, file.state):
        return True
    if not is_clip(file.state):
        return False
    entry = known_entry(request.name)
    return request.regions in RESNET_SOURCES or (entry is not None and entry.method == clim.METHOD)


def _read_clim(file: OpenFile, *, name: str, activation: Activation | None = None) -> Clim:
    """A model of CLIM's or OpenAI's layout; what its file does not say is logged as a warning.

    Args:
        file: Its file.
        name: What it was asked for by. Of names that are known, the activation is known too.
        activation: See :func:`regionclip.methods.clim.reading.read_model`.

    Raises:
        CheckpointError: See there.
    """
    read = clim.read_model(file.path, file.state, activation=activation)
    if known_entry(name) is None:
        for note in read.report.notes:
            LOGGER.warning("%s", note)
    return read.model


def _open_clim(file: OpenFile, request: LoadRequest) -> Detector:
    return _opened(_read_clim(file, name=request.name, activation=request.activation), request)


def _open_clipself(file: OpenFile, request: LoadRequest) -> Detector:
    return _opened(clipself.read_model(file.path, file.state).model, request)


def _opened(model: Clim | ClipSelf, request: LoadRequest) -> Detector:
    request.refuse_text_weights("runs with its own text tower")
    request.refuse_region_prompt()
    return dense_detector_of(
        model.to(request.device).requires_grad_(False),
        proposer=request.proposer,
        regions=request.regions,
        dtype=request.dtype,
        memory_budget=request.memory_budget,
        padding=request.padding,
    )


CLIM = FileKind(_is_for_clim, _open_clim)
CLIPSELF = FileKind(
    lambda file, _request: clipself.is_clipself_file(file.path, file.state), _open_clipself
)


def dense_detector_of(
    model: Clim | ClipSelf,
    *,
    proposer: Proposer | None = None,
    regions: RegionSource = "map",
    dtype: torch.dtype = torch.float32,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
    padding: Padding | None = None,
) -> Detector:
    """A detector with the weights of a dense CLIP, which are shared, not copied.

    Args:
        model: On the device to detect on, frozen.
        proposer: Where boxes come from; the model has none of its own.
        regions: ``map`` is what the model's configuration says; see :func:`regionclip.load`.
        dtype: See :func:`regionclip.load`.
        memory_budget: See :func:`regionclip.load`.
        padding: How images are filled up; ``None``: as the model's configuration says.

    Raises:
        ValueError: The image tower has no such regions.
    """
    config = model.config
    embedder = _region_embedder(
        model,
        regions,
        dtype=dtype,
        memory_budget=memory_budget,
        padding=padding or config.padding,
    )
    parts = dense_parts(
        model.encoder, embedder, proposer=proposer, longest_side=config.longest_side
    )
    parts = replace(parts, templates=config.templates, temperature=config.temperature)
    return Detector(parts, DetectOptions(selection=config.selection))


def dense_parts(
    encoder: TextEncoder,
    regions: RegionEmbedder,
    *,
    proposer: Proposer | None,
    longest_side: int,
) -> DetectorParts:
    """Words and images as CLIM and CLIPSelf prepare them: images fill squares of one size.

    Args:
        encoder: Words to vectors.
        regions: Regions to vectors.
        proposer: Where boxes come from.
        longest_side: Pixels of the resized image's longer side.
    """
    return DetectorParts(
        encoder=UnitPrompts(encoder),
        regions=regions,
        proposer=proposer,
        templates=DENSE_TEMPLATES,
        shortest_side=longest_side,
        longest_side=longest_side,
        size_rule="longest",
        interpolation="bicubic",
        dense_tower=encoder if isinstance(encoder, DenseEncoder) else None,
        crop_tower=encoder if isinstance(encoder, CropEncoder) else None,
    )


def _region_embedder(
    model: Clim | ClipSelf,
    regions: RegionSource,
    *,
    dtype: torch.dtype,
    memory_budget: int,
    padding: Padding,
) -> RegionEmbedder:
    encoder = model.encoder
    if regions == "map":
        regions = model.config.map_regions
    if regions == "crops":
        return CropRegions(encoder, dtype=dtype, memory_budget=memory_budget)
    if regions == "dense":
        return DenseRegions(encoder, dtype=dtype, memory_budget=memory_budget, padding=padding)
    if regions == "layer4" and isinstance(encoder, DenseClipResNet):
        return Layer4Regions(encoder, dtype=dtype, memory_budget=memory_budget, padding=padding)
    if regions == "mask-attention" and isinstance(encoder, ClipVit):
        return MaskAttentionRegions(encoder, dtype=dtype, padding=padding)
    raise ValueError(
        f"{encoder.spec.name} has no regions {regions!r}: 'layer4' is of ResNets, 'mask-attention' "
        "of CLIP's ViTs; use 'map', 'dense' or 'crops'"
    )
