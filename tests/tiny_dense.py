"""A dense vision transformer of a few thousand parameters."""

from dataclasses import replace

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
PLAIN = replace(TINY_VIT, width=64, head_width=64, text_width=64, text_heads=1)
"""With heads as a file of OpenAI's layout has them, whose tensors do not tell."""


def tiny_dense(spec: ClipVitSpec = TINY_VIT, *, seed: int = 0) -> ClipVit:
    """Random weights, in ``eval`` mode; patches of 8 pixels."""
    torch.manual_seed(seed)
    return ClipVit(spec).eval()
