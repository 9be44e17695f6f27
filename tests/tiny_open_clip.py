"""Towers that open_clip knows by name, of a few thousand parameters beside their words."""

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer

from regionclip.encoders.crop_encoder import OpenClipEncoder
from regionclip.loading.open_clip import DenseOpenClip, in_dense_form, save_dense

TINY_CONVNEXT, TINY_RESNET = "tiny-convnext", "tiny-resnet"
TINY_SIGLIP = "tiny-map-pooled"
"""open_clip looks for a tokenizer elsewhere if a name has SigLIP in it."""


@register_model
def tiny_siglip_trunk(
    pretrained: bool = False, *, global_pool: str = "map", num_classes: int = 0, **_others: Any
) -> VisionTransformer:
    """A vision transformer without a class token, which an attention pool looks at."""
    return VisionTransformer(
        img_size=64,
        patch_size=16,
        embed_dim=12,
        depth=2,
        num_heads=2,
        class_token=False,
        global_pool="map" if global_pool == "map" else "",
        num_classes=num_classes,
    )


IMAGES: dict[str, dict[str, Any]] = {
    TINY_CONVNEXT: {
        "timm_model_name": "test_convnext",
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 64,
    },
    TINY_RESNET: {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
    TINY_SIGLIP: {
        "timm_model_name": "tiny_siglip_trunk",
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": "none",
        "image_size": 64,
    },
}
WORDS = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
SIGLIP = {"text_cfg": WORDS | {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}}
"""SigLIP's words are read from both sides, and the last place stands for them."""


def tiny_named(name: str, folder: Path, *, seed: int = 0) -> OpenClipEncoder:
    """Random weights; from now on, open_clip knows the architecture."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {"vision_cfg": IMAGES[name], "text_cfg": WORDS, "quick_gelu": name == TINY_RESNET}
    if name == TINY_SIGLIP:
        own |= SIGLIP | {"custom_text": True, "init_logit_bias": -10}
    (folder / f"{name}.json").write_text(json.dumps({"embed_dim": 12, **own}))
    open_clip.add_model_config(folder)
    torch.manual_seed(seed)
    return OpenClipEncoder.create(name)


def tiny_convnext(folder: Path, *, seed: int = 0) -> DenseOpenClip:
    """A ConvNeXt, to be trained."""
    return in_dense_form(tiny_named(TINY_CONVNEXT, folder, seed=seed), TINY_CONVNEXT)


def write_siglip(path: Path, *, seed: int = 0) -> Path:
    """The file of a SigLIP."""
    named = tiny_named(TINY_SIGLIP, path.parent / "architectures", seed=seed)
    save_dense(path, in_dense_form(named, TINY_SIGLIP))
    return path


def write_convnext(path: Path, *, seed: int = 0) -> Path:
    """The file of a ConvNeXt."""
    save_dense(path, tiny_convnext(path.parent / "architectures", seed=seed))
    return path
