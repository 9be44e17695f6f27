"""Towers of a few thousand parameters whose vector of an image is the mean of its map."""

from functools import cache
from typing import Any

import torch

from regionclip.encoders.mean_clip import MeanClip, MeanClipSpec

TINY_MEANS: dict[str, dict[str, Any]] = {
    "vit": {"width": 16, "depths": (2,), "heads": (2,), "image_size": 64},
    "swin": {"width": 8, "depths": (1, 1, 2, 1), "heads": (1, 2, 2, 4)},
    "davit": {"width": 8, "depths": (1, 1, 1, 1), "heads": (1, 2, 2, 4)},
    "focalnet": {"width": 8, "depths": (1, 1, 1, 1)},
}
"""What the towers are told, by their trunk."""


@cache
def tiny_mean(trunk: str) -> MeanClip:
    """Random weights, in ``eval`` mode, without gradients; not to be changed."""
    torch.manual_seed(0)
    text: dict[str, Any] = {
        "text_width": 16,
        "text_heads": 2,
        "text_layers": 1,
        "context_length": 16,
    }
    spec = MeanClipSpec(
        name=f"tiny-{trunk}",
        trunk=trunk,  # type: ignore[arg-type]
        embed_dim=10,
        vocab_size=600,
        **TINY_MEANS[trunk],
        **text,
    )
    return MeanClip(spec).eval().requires_grad_(False)
