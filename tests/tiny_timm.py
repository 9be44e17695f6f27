"""Towers of timm's that open_clip has under names, of a few thousand parameters."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, set_model_preprocess_cfg
from open_clip.timm_model import TimmModel
from timm.models.convnext import ConvNeXt
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from regionclip.encoders.crop_encoder import OpenClipEncoder
from regionclip.encoders.dense import DenseEncoder
from regionclip.encoders.dense_open_clip import dense_form_of
from regionclip.encoders.dense_timm import (
    DenseConvNext,
    DenseOpenClipEva,
    DensePerceptionEncoder,
    DenseSigLip,
)
from regionclip.encoders.tokenizer import clip_tokenizer

SIZES: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 2,
}


def convnext() -> tuple[nn.Module, nn.Module]:
    trunk = ConvNeXt(num_classes=0, depths=(1, 1, 1, 1), dims=(4, 4, 8, 8), ls_init_value=None)
    return trunk, nn.Sequential(nn.Dropout(0.0), nn.Linear(8, 10, bias=False))


def siglip() -> tuple[nn.Module, nn.Module]:
    trunk = VisionTransformer(num_classes=0, class_token=False, global_pool="map", **SIZES)
    return trunk, nn.Sequential()


def perception(*, class_token: bool) -> tuple[nn.Module, nn.Module]:
    trunk = Eva(
        num_classes=10,
        global_pool="map",
        attn_type="rope",
        class_token=class_token,
        use_pre_transformer_norm=True,
        use_rot_pos_emb=True,
        ref_feat_shape=(4, 4),
        rope_grid_offset=1.0,
        rope_grid_indexing="xy",
        attn_pool_num_heads=2,
        attn_pool_mlp_ratio=2.0,
        **SIZES,
    )
    return trunk, nn.Sequential()


def eva(*, rotated: bool, post_norm: bool) -> tuple[nn.Module, nn.Module]:
    """EVA-CLIP's giant (nothing new), its enormous one (norms after, rotation)."""
    trunk = Eva(
        num_classes=10,
        global_pool="token",
        use_rot_pos_emb=rotated,
        use_post_norm=post_norm,
        init_values=None if post_norm else 0.5,
        **SIZES,
    )
    return trunk, nn.Sequential()


TOWERS: dict[str, tuple[Callable[[], tuple[nn.Module, nn.Module]], type]] = {
    "convnext": (convnext, DenseConvNext),
    "siglip": (siglip, DenseSigLip),
    "pe": (partial(perception, class_token=True), DensePerceptionEncoder),
    "pe without class token": (partial(perception, class_token=False), DensePerceptionEncoder),
    "eva giant": (partial(eva, rotated=False, post_norm=False), DenseOpenClipEva),
    "eva enormous": (partial(eva, rotated=True, post_norm=True), DenseOpenClipEva),
}


def wrapped(trunk: nn.Module, head: nn.Module, *, size: int = 32) -> OpenClipEncoder:
    """An image tower beside a text tower, with random weights that matter."""
    visual = TimmModel.__new__(TimmModel)
    nn.Module.__init__(visual)
    visual.register_module("trunk", trunk)
    visual.register_module("head", head)
    model = CLIP(
        embed_dim=10,
        vision_cfg=CLIPVisionCfg(layers=0, patch_size=32, image_size=32),
        text_cfg=CLIPTextCfg(context_length=16, vocab_size=600, width=16, heads=2, layers=1),
    )
    model.register_module("visual", visual)
    generator = torch.Generator().manual_seed(5)
    for parameter in visual.parameters():
        scale = parameter.shape[1:].numel() ** -0.5 if parameter.ndim > 1 else 0.3
        parameter.data = torch.randn(parameter.shape, generator=generator) * scale
    statistics = {"size": (size, size), "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    set_model_preprocess_cfg(model, statistics)
    model.eval().requires_grad_(False)
    return OpenClipEncoder(
        model, name="tiny", tokenize=clip_tokenizer(num_merges=86, context_length=16)
    )


def dense_tower(name: str) -> DenseEncoder:
    """One of the towers in its dense form."""
    torch.manual_seed(0)
    dense = dense_form_of(wrapped(*TOWERS[name][0]()))
    assert dense is not None
    return dense
