"""From open_clip's models, by name or from the file of a trained one, to a detector."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import open_clip
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import QuickGELU
from torch import Tensor

from regionclip.checkpoints import load_strict, read_checkpoint, save_native
from regionclip.checkpoints.own_models import own_config, own_method
from regionclip.data.transforms import Padding
from regionclip.detect import Detector, DetectorParts
from regionclip.encoders.clip_towers import OPENAI_MEAN, OPENAI_STD
from regionclip.encoders.crop_encoder import OpenClipEncoder
from regionclip.encoders.dense import DenseEncoder, usual_longest_side
from regionclip.encoders.dense_open_clip import DenseOpenClipVit, dense_form_of
from regionclip.loading.dense import dense_parts
from regionclip.loading.regionclip import (
    detector_of,
    resnet_of,
    take_region_prompt,
    text_tower_of,
)
from regionclip.loading.request import FileKind, LoadRequest, OpenFile
from regionclip.methods.regionclip.model import RegionClip
from regionclip.regions.crops import CropRegions
from regionclip.regions.dense_regions import DenseRegions
from regionclip.regions.embedder import RegionEmbedder
from regionclip.regions.mask_attention import MaskAttentionRegions
from regionclip.settings import settings_to_dict

METHOD = "open_clip"
"""In our own files, beside the methods' names."""
OWN_WORDS = "runs with its own text tower"
PADDING: Padding = "square"
"""How images are filled up unless told otherwise, as CLIM and CLIPSelf do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenClipConfig:
    """What builds one of open_clip's models again."""

    architecture: str
    """open_clip's name."""
    quick_gelu: bool = False
    """Whether it has QuickGELU, which its name may not tell."""
    mean: tuple[float, float, float] = OPENAI_MEAN
    """Per channel, of RGB in [0, 1]; those of the weights, which the name does not tell."""
    std: tuple[float, float, float] = OPENAI_STD


@dataclass(frozen=True, slots=True)
class DenseOpenClip:
    """One of open_clip's models, to be trained.

    Attributes:
        config: Builds it again.
        encoder: Its dense form.
        weights: The same weights, by open_clip's names.
    """

    config: OpenClipConfig
    encoder: DenseEncoder
    weights: OpenClipEncoder


def open_named(request: LoadRequest) -> Detector:
    """Make a detector of ``tag:architecture``.

    Regions come from the dense map where the architecture has a sound one, else from whole crops:
    ``docs/dense_encoders.md`` lists which. Images and prompts are the same for all kinds of regions
    of one architecture.

    Raises:
        ValueError: open_clip does not know the name, or the options do not go with it.
    """
    request.refuse_text_weights(OWN_WORDS)
    return _detector(create_named(request.name), request)


def _open_file(file: OpenFile, request: LoadRequest) -> Detector:
    request.refuse_text_weights(OWN_WORDS)
    return _detector(_read(file.path, file.state), request)


OPEN_CLIP = FileKind(lambda file, _request: is_open_clip_file(file.path), _open_file)
"""Files that :func:`save_dense` wrote."""


def is_open_clip_file(path: Path) -> bool:
    """Whether :func:`save_dense` wrote a file."""
    return own_method(path) == METHOD


def create_named(name: str) -> OpenClipEncoder:
    """A model of open_clip's, which open_clip downloads.

    Args:
        name: ``tag:architecture``.

    Raises:
        ValueError: open_clip does not know it.
    """
    tag, _, architecture = name.partition(":")
    return OpenClipEncoder.create(architecture, tag)


def names_resnet(name: str) -> bool:
    """Whether ``tag:architecture`` is CLIP's ResNet, whoever trained it."""
    config = open_clip.get_model_config(name.partition(":")[2])
    return config is not None and isinstance(config["vision_cfg"].get("layers"), list)


def create_dense(name: str) -> DenseOpenClip:
    """A model of open_clip's in its dense form, which open_clip downloads.

    Args:
        name: ``tag:architecture``.

    Raises:
        ValueError: open_clip does not know it, or no sound dense form of it is known.
    """
    return in_dense_form(create_named(name), name)


def read_dense(path: Path, state: Mapping[str, Tensor] | None = None) -> DenseOpenClip:
    """What :func:`save_dense` wrote.

    Args:
        path: The file.
        state: Its tensors, from a caller that has read them.

    Raises:
        CheckpointError: It is another file, or does not fit its architecture.
        ValueError: open_clip does not know the architecture.
    """
    state = read_checkpoint(path) if state is None else state
    return in_dense_form(_read(path, state), str(path))


def in_dense_form(encoder: OpenClipEncoder, source: str) -> DenseOpenClip:
    """A model of open_clip's, whose weights are shared, to be trained.

    Args:
        encoder: The model.
        source: How errors call it.

    Raises:
        ValueError: No sound dense form of it is known.
    """
    dense = dense_form_of(encoder)
    if dense is None:
        raise ValueError(
            f"no sound dense form of {source} ({encoder.name}) is known, and only towers with a "
            "map of vectors are trained here; docs/dense_encoders.md lists them"
        )
    quick = any(isinstance(each, QuickGELU) for each in encoder.modules())
    config = OpenClipConfig(
        architecture=encoder.name, quick_gelu=quick, mean=encoder.mean, std=encoder.std
    )
    return DenseOpenClip(config, dense, encoder)


def save_dense(path: Path, model: DenseOpenClip) -> None:
    """Write a model such that :func:`regionclip.load` reads it, where open_clip is the same."""
    save_native(
        path,
        model.weights.model.state_dict(),
        method=METHOD,
        config=settings_to_dict(model.config),
        encoder_id=model.weights.encoder_id,
    )


def open_clip_detector_of(encoder: DenseEncoder) -> Detector:
    """A detector with the weights of a dense form, which are shared, not copied."""
    regions = DenseRegions(encoder, padding=PADDING)
    return Detector(
        dense_parts(encoder, regions, proposer=None, longest_side=usual_longest_side(encoder.cell))
    )


def _detector(encoder: OpenClipEncoder, request: LoadRequest) -> Detector:
    if isinstance(encoder.model.get_submodule("visual"), ModifiedResNet):
        request.refuse_padding()
        return _resnet_detector(resnet_of(encoder, source=request.name), request)
    request.refuse_region_prompt()
    encoder = encoder.to(request.device)
    dense = dense_form_of(encoder)
    embedder = _regions_of(encoder, dense, request)
    if dense is None:
        request.refuse_padding()
        parts = DetectorParts(
            encoder=encoder, regions=embedder, proposer=request.proposer, crop_tower=encoder
        )
        return Detector(parts)
    longest_side = usual_longest_side(dense.cell)
    return Detector(
        dense_parts(dense, embedder, proposer=request.proposer, longest_side=longest_side)
    )


def _read(path: Path, state: Mapping[str, Tensor]) -> OpenClipEncoder:
    config = own_config(path, OpenClipConfig, method=METHOD, title="open_clip")
    pixels = {"mean": config.mean, "std": config.std}
    encoder = OpenClipEncoder.create(
        config.architecture, quick_gelu=config.quick_gelu, pixels=pixels
    )
    load_strict(encoder.model, state, source=str(path), target=f"open_clip's {config.architecture}")
    return encoder


def _resnet_detector(model: RegionClip, request: LoadRequest) -> Detector:
    model.to(request.device).requires_grad_(False)
    take_region_prompt(model, request.region_prompt)
    return detector_of(
        model,
        text_tower_of(model),
        proposer=request.proposer,
        regions=request.regions,
        dtype=request.dtype,
        memory_budget=request.memory_budget,
    )


def _regions_of(
    encoder: OpenClipEncoder, dense: DenseEncoder | None, request: LoadRequest
) -> RegionEmbedder:
    kind, dtype, memory_budget = request.regions, request.dtype, request.memory_budget
    padding = request.padding or PADDING
    if kind == "crops" or (kind == "map" and dense is None):
        return CropRegions(encoder, dtype=dtype, memory_budget=memory_budget)
    if dense is not None and kind in ("map", "dense"):
        return DenseRegions(dense, dtype=dtype, memory_budget=memory_budget, padding=padding)
    if isinstance(dense, DenseOpenClipVit) and kind == "mask-attention":
        return MaskAttentionRegions(dense, dtype=dtype, padding=padding)
    raise ValueError(
        f"{request.name} has no regions {kind!r}; use 'map', or 'crops' for whole crops"
    )
