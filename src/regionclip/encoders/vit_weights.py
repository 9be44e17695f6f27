"""What a CLIP ViT's tensors tell about it, and what they are rounded to."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from open_clip.model import convert_weights_to_lp
from torch import Tensor, nn

from .clip_weights import num_blocks, text_shapes_of, untold
from .vit import VIT_SPECS, ClipVitSpec

Activation = Literal["quick_gelu", "gelu"]
_OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")
"""Numbers that OpenAI's archives keep as tensors; attention masks are the other such thing."""


def is_clip_vit(state: Mapping[str, Tensor]) -> bool:
    """Whether a file is a CLIP of OpenAI's layout with a vision transformer."""
    return {"visual.conv1.weight", "visual.class_embedding", "text_projection"} <= state.keys()


HEAD_WIDTHS = {1280: 80, 1408: 88, 1664: 104}
"""Channels of a head by the tower's width, where they are not 64: open_clip's ViT-H-14, -g-14 and
-bigG-14 (``model_configs``, ``head_width``)."""


def without_extras(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of OpenAI's archive that are weights."""
    return {
        name: tensor
        for name, tensor in state.items()
        if name not in _OPENAI_EXTRAS and not name.endswith("attn_mask")
    }


def told_activation(state: Mapping[str, Tensor]) -> Activation | None:
    """What a file says that its towers compute with.

    Returns:
        QuickGELU of OpenAI's archives, which carry numbers beside their weights; ``None`` of all
        other files, CLIM's among them, which say nothing.
    """
    return "quick_gelu" if set(_OPENAI_EXTRAS) <= state.keys() else None


def vit_spec_of(
    state: Mapping[str, Tensor], source: str, *, activation: Activation = "quick_gelu"
) -> ClipVitSpec:
    """Read the architecture from shapes, which do not tell heads: 64 channels or ``HEAD_WIDTHS``.

    Args:
        state: Tensors by open_clip's names.
        source: How errors call the file.
        activation: Which no tensor tells.

    Raises:
        CheckpointError: A tensor that tells is missing or of another number of axes.
    """
    try:
        width, _, patch_size, _ = state["visual.conv1.weight"].shape
        grid = math.isqrt(len(state["visual.positional_embedding"]) - 1)
        seen = ClipVitSpec(
            name="",
            embed_dim=state["visual.proj"].shape[1],
            image_size=grid * patch_size,
            patch_size=patch_size,
            width=width,
            head_width=HEAD_WIDTHS.get(width, 64),
            layers=num_blocks(state, r"visual\.transformer\.resblocks\."),
            quick_gelu=activation == "quick_gelu",
            **text_shapes_of(state),
        )
    except (KeyError, ValueError, IndexError) as error:
        raise untold(error, f"{source} has a CLIP ViT") from error
    named = f"ViT-{seen.layers}x{width}-{patch_size}"
    for name, spec in VIT_SPECS.items():
        if replace(spec, name="", quick_gelu=seen.quick_gelu) == seen:
            named = name
    return replace(seen, name=named)


def round_as_openai(model: nn.Module) -> None:
    """Round weights, in place, to what float16 holds, where OpenAI's files store that.

    Convolutions, linear layers, attention's projections and both towers' last ones; norms,
    embeddings and the temperature stay. Programs that load such files cast a model before they
    fill it, so that they round whatever file they are given.

    Source:
        openai/CLIP ``clip/model.py:convert_weights``; open_clip ``model.py:convert_weights_to_lp``.
    """
    convert_weights_to_lp(model)
    model.float()
