"""Towers that open_clip knows by name, of a few thousand parameters beside their words."""

import json
from pathlib import Path
from typing import Any

import open_clip
import torch

from regionclip.encoders.crop_encoder import OpenClipEncoder
from regionclip.loading.open_clip import DenseOpenClip, in_dense_form, save_dense

TINY_CONVNEXT, TINY_RESNET = "tiny-convnext", "tiny-resnet"
IMAGES: dict[str, dict[str, Any]] = {
    TINY_CONVNEXT: {
        "timm_model_name": "test_convnext",
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 64,
    },
    TINY_RESNET: {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
}
WORDS = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}


def tiny_named(name: str, folder: Path, *, seed: int = 0) -> OpenClipEncoder:
    """Random weights; from now on, open_clip knows the architecture."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {"vision_cfg": IMAGES[name], "text_cfg": WORDS, "quick_gelu": name == TINY_RESNET}
    (folder / f"{name}.json").write_text(json.dumps({"embed_dim": 12, **own}))
    open_clip.add_model_config(folder)
    torch.manual_seed(seed)
    return OpenClipEncoder.create(name)


def tiny_convnext(folder: Path, *, seed: int = 0) -> DenseOpenClip:
    """A ConvNeXt, to be trained."""
    return in_dense_form(tiny_named(TINY_CONVNEXT, folder, seed=seed), TINY_CONVNEXT)


def write_convnext(path: Path, *, seed: int = 0) -> Path:
    """The file of one."""
    save_dense(path, tiny_convnext(path.parent / "architectures", seed=seed))
    return path
