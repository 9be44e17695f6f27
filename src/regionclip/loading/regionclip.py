"""From RegionCLIP's files, and plain CLIPs with a ResNet, to a detector."""

from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path

import torch

from regionclip.checkpoints import CheckpointError
from regionclip.detect import DetectOptions, Detector, DetectorParts
from regionclip.encoders.clip_resnet import ClipResNet
from regionclip.encoders.crop_encoder import OpenClipEncoder
from regionclip.encoders.text import MissingTextTower, ShortPrompts, TextEncoder
from regionclip.loading.request import (
    FileKind,
    LoadRequest,
    OpenFile,
    check_named,
    is_open_clip_name,
)
from regionclip.loading.words import carried_classes
from regionclip.methods import find_weights
from regionclip.methods.cora.reading import (
    read_prompt_conditions,
    read_region_prompt,
    set_region_prompt,
)
from regionclip.methods.regionclip.config import RegionClipConfig
from regionclip.methods.regionclip.model import RegionClip
from regionclip.methods.regionclip.reading import ReadModel, model_of, read_model
from regionclip.methods.regionclip.weights import recognise_checkpoint
from regionclip.proposals.proposer import Proposer
from regionclip.regions.crops import CropRegions
from regionclip.regions.embedder import BoxScale, RegionEmbedder, RegionSource
from regionclip.regions.map_regions import MapRegions
from regionclip.regions.region_head import DEFAULT_MEMORY_BUDGET
from regionclip.regions.valid_cells import ShareMapRegions
from regionclip.weights import Progress


def _open(file: OpenFile, request: LoadRequest) -> Detector:
    read = read_model(file.path, file.state)
    read.model.to(request.device).requires_grad_(False)
    take_region_prompt(read.model, request.region_prompt)
    return detector_of(
        read.model,
        text_encoder_of(read, request.text_weights, progress=request.progress),
        proposer=request.proposer,
        regions=request.regions,
        dtype=request.dtype,
        memory_budget=request.memory_budget,
    )


REGIONCLIP = FileKind(lambda _file, _request: True, _open)
"""Every file: what RegionCLIP does not know it says so of, by what the file holds."""


def detector_of(
    model: RegionClip,
    text: TextEncoder,
    *,
    proposer: Proposer | None = None,
    regions: RegionSource = "map",
    dtype: torch.dtype = torch.float32,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
) -> Detector:
    """A detector with the weights that a model has now; those of the towers are copied.

    Args:
        model: On the device to detect on.
        text: The tower that names classes.
        proposer: Where boxes come from; ``None`` takes the model's own, if it has one.
        regions: See :func:`regionclip.load`.
        dtype: See :func:`regionclip.load`.
        memory_budget: See :func:`regionclip.load`.
    """
    embedder = region_embedder(
        model.encoder,
        regions,
        box_scale=model.config.box_scale,
        dtype=dtype,
        memory_budget=memory_budget,
    )
    if proposer is None and model.proposer is not None:
        # a copy: folding changes the keys, and the model must stay one that can be saved
        proposer = deepcopy(model.proposer).eval().fold_batch_norms().to(dtype)
    config = model.config
    own = model.train_embeddings if model.test_embeddings is None else model.test_embeddings
    parts = DetectorParts(
        encoder=text,
        regions=embedder,
        proposer=proposer,
        box_regressor=model.box_regressor,
        mask_head=model.mask_head,
        class_vocabulary=carried_classes(
            config.class_names, config.own_class_names, own, text.encoder_id
        ),
        templates=config.templates,
        temperature=config.temperature,
        shortest_side=config.shortest_side,
        longest_side=config.longest_side,
        size_rule=config.size_rule,
        crop_tower=model.encoder,
    )
    options = DetectOptions(
        selection=config.selection,
        objectness_fusion=config.objectness_fusion,
        use_box_deltas=config.box_regression,
    )
    return Detector(parts, options)


def resnet_of(encoder: OpenClipEncoder, *, source: str) -> RegionClip:
    """One of open_clip's ResNets, whoever trained it, as a model without proposals.

    Args:
        encoder: With CLIP's ResNet; its weights are copied.
        source: How errors call it.
    """
    return model_of(
        recognise_checkpoint(encoder.model.state_dict(), source=source), source=source
    ).model


def region_embedder(
    encoder: ClipResNet,
    regions: RegionSource,
    *,
    box_scale: BoxScale = "stride",
    dtype: torch.dtype = torch.float32,
    memory_budget: int = DEFAULT_MEMORY_BUDGET,
) -> RegionEmbedder:
    """What turns regions into vectors of an encoder.

    Args:
        encoder: Whose regions they are.
        regions: See :func:`regionclip.load`.
        box_scale: How boxes come to lie on a map; nothing to ``crops``.
        dtype: See :func:`regionclip.load`.
        memory_budget: See :func:`regionclip.load`.

    Raises:
        ValueError: Regions are wanted neither from layer3's map nor from crops.
    """
    if regions == "map":
        kind = MapRegions if box_scale == "stride" else ShareMapRegions
        return kind(encoder, dtype=dtype, memory_budget=memory_budget)
    if regions == "crops":
        return CropRegions(encoder, dtype=dtype, memory_budget=memory_budget)
    raise ValueError(
        f"a RegionCLIP model has no regions {regions!r}; use 'map', or 'crops' for whole crops"
    )


def take_region_prompt(model: RegionClip, path: str | Path | None) -> None:
    """Let a model, in place, see regions, images and names as a region prompt's file says.

    Args:
        model: Any CLIP with a ResNet of the prompt's size.
        path: The file; ``None`` changes nothing.

    Raises:
        CheckpointError: It is no prompt, or does not suit the model.
    """
    use_region_prompt(model.encoder, path)
    model.config = _as_prompted(model.config, path)


def use_region_prompt(encoder: ClipResNet, path: str | Path | None) -> None:
    """Let an image tower, in place, pool regions by the prompt of a file; by its own without."""
    if path is not None:
        set_region_prompt(encoder, read_region_prompt(path), source=str(path))


def _as_prompted(config: RegionClipConfig, path: str | Path | None) -> RegionClipConfig:
    """A model's configuration, seeing images and names as a region prompt's file says, if it does.

    Raises:
        CheckpointError: The model reads fewer tokens than the prompt's training did.
    """
    conditions = None if path is None else read_prompt_conditions(path)
    if conditions is None:
        return config
    try:
        return replace(config, **asdict(conditions), size_rule="detr", box_scale="share")
    except ValueError as error:
        raise CheckpointError(f"region prompt {path} does not suit the model: {error}") from error


def text_encoder_of(
    read: ReadModel, text_weights: str | Path | None = None, *, progress: Progress | None = None
) -> TextEncoder:
    """The model's own text tower, another's, or one that says that there is none.

    Args:
        read: A model.
        text_weights: Known name or file of a model that lends its text tower.
        progress: Called while weights are downloaded; see :func:`regionclip.load`.

    Raises:
        ValueError: There is no such model, or it has no text tower, or one of another width.
    """
    encoder = read.model.encoder
    if text_weights is None:
        name = encoder.spec.name
        return text_tower_of(read.model) if read.has_text_tower else MissingTextTower(name)
    if is_open_clip_name(text_weights):
        check_named(str(text_weights))
        raise ValueError(
            f"{text_weights} is a model of open_clip's in a space of its own, and cannot lend "
            f"{encoder.spec.name} a text tower; use OpenAI's, 'openai:{encoder.spec.name}'"
        )
    other = read_model(find_weights(text_weights, progress=progress))
    same_space = other.model.encoder.spec.embed_dim == encoder.spec.embed_dim
    if not other.has_text_tower or not same_space:
        raise ValueError(
            f"{text_weights} cannot lend {encoder.spec.name} a text tower: it has none, or one of "
            f"another width; use OpenAI's, 'openai:{encoder.spec.name}'"
        )
    other.model.encoder.to(encoder.device).requires_grad_(False)
    return text_tower_of(other.model)


def text_tower_of(model: RegionClip) -> TextEncoder:
    """A model's own text tower, reading as many tokens of a prompt as its configuration says."""
    length = model.config.text_length
    return model.encoder if length is None else ShortPrompts(model.encoder, length=length)
