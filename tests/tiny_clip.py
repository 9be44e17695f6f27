"""Encoders of a few thousand parameters, with batch norms that do something."""

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, set_model_preprocess_cfg
from torch import nn

from regionclip.encoders.clip_resnet import ClipResNet, ClipResNetSpec
from regionclip.encoders.crop_encoder import OpenClipEncoder
from regionclip.encoders.tokenizer import clip_tokenizer

TINY = ClipResNetSpec(
    name="tiny",
    embed_dim=12,
    image_size=64,
    layers=(1, 1, 1, 2),
    width=8,
    text_width=16,
    text_heads=2,
    text_layers=2,
    context_length=16,
    vocab_size=600,
)


def tiny_clip(seed: int = 0, spec: ClipResNetSpec = TINY) -> ClipResNet:
    """Random weights, random norms, in ``eval`` mode, without gradients."""
    torch.manual_seed(seed)
    encoder = ClipResNet(spec).eval().requires_grad_(False)
    randomize_norms(encoder)
    nn.init.normal_(encoder.visual.attnpool.positional_embedding, std=0.2)
    return encoder


def tiny_vit(seed: int = 0) -> OpenClipEncoder:
    """A ViT of a few thousand parameters for whole crops, without gradients."""
    torch.manual_seed(seed)
    model = CLIP(
        embed_dim=10,
        vision_cfg=CLIPVisionCfg(layers=1, width=16, head_width=8, patch_size=8, image_size=32),
        text_cfg=CLIPTextCfg(context_length=16, vocab_size=600, width=16, heads=2, layers=1),
    )
    statistics = {"size": (32, 32), "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    set_model_preprocess_cfg(model, statistics)
    model.eval().requires_grad_(False)
    tokenize = clip_tokenizer(num_merges=86, context_length=16)
    return OpenClipEncoder(model, name="tiny-vit", tokenize=tokenize)


def randomize_norms(module: nn.Module) -> None:
    """Batch norms with statistics and weights that matter."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.get_buffer("running_mean"), std=0.1)
            nn.init.uniform_(norm.get_buffer("running_var"), 0.5, 2.0)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.2)
