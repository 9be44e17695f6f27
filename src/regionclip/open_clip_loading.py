"""From the name of an open_clip model, which open_clip downloads, to a detector or a start."""

from dataclasses import replace
from pathlib import Path

import torch
from open_clip.transformer import QuickGELU

from regionclip.checkpoints.own_models import filled
from regionclip.dense_loading import dense_parts
from regionclip.detect import Detector, DetectorParts
from regionclip.encoders.crop_encoder import OpenClipEncoder
from regionclip.encoders.dense import DenseEncoder, usual_longest_side
from regionclip.encoders.dense_open_clip import DenseOpenClipVit, dense_form_of
from regionclip.encoders.eva_weights import is_eva_clip
from regionclip.encoders.vit_weights import is_clip_vit
from regionclip.loading_request import LoadRequest
from regionclip.methods import known_entry
from regionclip.methods.clim import model as clim_model
from regionclip.methods.clim import weights as clim_weights
from regionclip.methods.clim.model import Clim
from regionclip.methods.clipself import model as clipself_model
from regionclip.methods.clipself import weights as clipself_weights
from regionclip.methods.clipself.model import ClipSelf
from regionclip.regions.crops import CropRegions
from regionclip.regions.dense_regions import DenseRegions
from regionclip.regions.embedder import RegionEmbedder
from regionclip.regions.mask_attention import MaskAttentionRegions


def is_open_clip_name(name: str | Path) -> bool:
    """``tag:architecture`` of an open_clip model whose file is not known here."""
    if Path(name).exists() or known_entry(name) is not None:
        return False
    return ":" in str(name)


def open_named(request: LoadRequest) -> Detector:
    """Make a detector of ``tag:architecture``.

    Regions come from the dense map where the architecture has a sound one, else from whole crops:
    ``docs/dense_encoders.md`` lists which. Images and prompts are the same for all kinds of regions
    of one architecture.

    Raises:
        ValueError: open_clip does not know the name, or the options do not go with it.
    """
    request.refuse_text_weights("runs with its own text tower")
    request.refuse_region_prompt()
    tag, _, architecture = request.name.partition(":")
    encoder = OpenClipEncoder.create(architecture, tag).to(request.device)
    dense = dense_form_of(encoder)
    embedder = _regions_of(encoder, dense, request)
    if dense is None:
        parts = DetectorParts(encoder=encoder, regions=embedder, proposer=request.proposer)
        return Detector(parts)
    longest_side = usual_longest_side(dense.cell)
    return Detector(
        dense_parts(dense, embedder, proposer=request.proposer, longest_side=longest_side)
    )


def trainable_model_of(name: str) -> Clim | ClipSelf:
    """An open_clip model as one of ours, which can be trained, saved and loaded without open_clip.

    Args:
        name: ``tag:architecture``.

    Raises:
        ValueError: open_clip does not know the name, or its image tower is neither OpenAI's vision
            transformer nor EVA-02, or it computes otherwise than ours of the same tensors.
    """
    tag, _, architecture = name.partition(":")
    encoder = OpenClipEncoder.create(architecture, tag)
    state, pixels = encoder.model.state_dict(), {"mean": encoder.mean, "std": encoder.std}
    model: Clim | ClipSelf
    if is_eva_clip(state):
        eva, tensors = clipself_weights.map_weights(state, source=name)
        eva = replace(eva, encoder=replace(eva.encoder, **pixels))
        model = filled(clipself_model.build, eva, tensors, source=name, target=name).model
    elif is_clip_vit(state):
        is_quick = any(isinstance(each, QuickGELU) for each in encoder.model.modules())
        activation = "quick_gelu" if is_quick else "gelu"
        config, tensors = clim_weights.map_weights(state, source=name, activation=activation)
        if config.vit is not None:
            config = replace(config, vit=replace(config.vit, **pixels))
        model = filled(clim_model.build, config, tensors, source=name, target=name).model
    else:
        raise ValueError(
            f"{name} cannot be trained here: starts have OpenAI's vision transformer, such as "
            "laion2b_s34b_b88k:ViT-B-16, or EVA-02, such as merged2b_s8b_b131k:EVA02-B-16"
        )
    _check_same(encoder, model, name)
    return model


@torch.no_grad()
def _check_same(encoder: OpenClipEncoder, model: Clim | ClipSelf, name: str) -> None:
    """Refuse a model of the same tensors and another mathematics, such as another pool's."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, *encoder.image_size_hw, generator=generator)
    own, words = model.encoder, ["a photo of a cat"]
    pairs = (
        (encoder.encode_image(image), own.encode_image(image)),
        (encoder.encode_tokens(encoder.tokenize(words)), own.encode_tokens(own.tokenize(words))),
    )
    for theirs, ours in pairs:
        if theirs.shape != ours.shape or not torch.allclose(theirs, ours, rtol=1e-3, atol=1e-3):
            raise ValueError(
                f"{name} computes otherwise than a CLIP of OpenAI's or EVA-02's form with its "
                "tensors; it cannot be trained here"
            )


def _regions_of(
    encoder: OpenClipEncoder, dense: DenseEncoder | None, request: LoadRequest
) -> RegionEmbedder:
    kind, dtype, memory_budget = request.regions, request.dtype, request.memory_budget
    if kind == "crops" or (kind == "map" and dense is None):
        return CropRegions(encoder, dtype=dtype, memory_budget=memory_budget)
    if dense is not None and kind in ("map", "dense"):
        return DenseRegions(dense, dtype=dtype, memory_budget=memory_budget)
    if isinstance(dense, DenseOpenClipVit) and kind == "mask-attention":
        return MaskAttentionRegions(dense, dtype=dtype)
    raise ValueError(
        f"{request.name} has no regions {kind!r}; use 'map', or 'crops' for whole crops"
    )
