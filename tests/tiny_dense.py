"""A dense vision transformer of a few thousand parameters."""

import torch

from regionclip.encoders.vit import ClipVit, ClipVitSpec

TINY_VIT = ClipVitSpec(
    name="tiny-vit",
    embed_dim=10,
    image_size=32,
    patch_size=8,
    width=16,
    layers=2,
    head_width=8,
    text_width=16,
    text_heads=2,
    text_layers=1,
    context_length=16,
    vocab_size=600,
)


def tiny_dense(spec: ClipVitSpec = TINY_VIT, *, seed: int = 0) -> ClipVit:
    """Random weights, in ``eval`` mode; patches of 8 pixels."""
    torch.manual_seed(seed)
    return ClipVit(spec).eval()
