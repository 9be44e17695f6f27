"""Models of open_clip as models of ours, which are saved and loaded without open_clip."""

from dataclasses import replace

import torch
from open_clip.transformer import QuickGELU

from regionclip.checkpoints.own_models import filled
from regionclip.encoders.crop_encoder import OpenClipEncoder
from regionclip.encoders.eva_weights import is_eva_clip
from regionclip.encoders.vit_weights import is_clip_vit
from regionclip.loading.open_clip import create_named
from regionclip.methods.clim import model as clim_model
from regionclip.methods.clim import weights as clim_weights
from regionclip.methods.clim.model import Clim
from regionclip.methods.clipself import model as clipself_model
from regionclip.methods.clipself import weights as clipself_weights
from regionclip.methods.clipself.model import ClipSelf


def has_own_form(encoder: OpenClipEncoder) -> bool:
    """Whether its tensors are those of OpenAI's vision transformer, or of EVA-02."""
    state = encoder.model.state_dict()
    return is_eva_clip(state) or is_clip_vit(state)


def trainable_model_of(name: str) -> Clim | ClipSelf:
    """An open_clip model as one of ours, which can be trained, saved and loaded without open_clip.

    Args:
        name: ``tag:architecture``.

    Raises:
        ValueError: open_clip does not know the name, or as :func:`own_form_of`.
    """
    return own_form_of(create_named(name), name)


def own_form_of(encoder: OpenClipEncoder, name: str) -> Clim | ClipSelf:
    """As :func:`trainable_model_of`, of a model that is there already.

    Raises:
        ValueError: Its image tower is neither OpenAI's vision transformer nor EVA-02, or it
            computes otherwise than ours of the same tensors.
    """
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
            f"{name} has no form of ours: those have OpenAI's vision transformer, such as "
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
