"""CLIP's text tower without an image tower, for detectors whose image tower is another."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from .clip_towers import ClipTowers, without_image_tower
from .clip_weights import text_shapes_of, untold


@dataclass(frozen=True, kw_only=True, slots=True)
class TextSpec:
    """All that fixes a text tower; the defaults are OpenAI's ViT-B/32."""

    name: str = "ViT-B-32"
    """Of the CLIP that it is of, as ``encoder_id`` begins."""
    embed_dim: int = 512
    """Width of the joint space, ``D``."""
    text_width: int = 512
    text_heads: int = 8
    text_layers: int = 12
    context_length: int = 77
    vocab_size: int = 49408
    quick_gelu: bool = True
    """OpenAI's towers use QuickGELU."""


class TextTower(ClipTowers):
    """A text tower alone; its ``encoder_id`` is that of a whole CLIP with the same text tower."""

    def __init__(self, spec: TextSpec) -> None:
        """Build it with random weights."""
        super().__init__(spec, without_image_tower(1))
        self.clip.register_module("visual", nn.Identity())


def text_spec_of(text: Mapping[str, Tensor], source: str) -> TextSpec:
    """Read the sizes from shapes; the activation is OpenAI's.

    Args:
        text: Tensors by open_clip's names.
        source: How errors call the file.

    Raises:
        CheckpointError: A tensor that tells is missing or of another number of axes.
    """
    try:
        sizes = text_shapes_of(text)
        own = TextSpec(embed_dim=text["text_projection"].shape[1], **sizes)
    except (KeyError, ValueError, IndexError) as error:
        raise untold(error, f"{source} has a text tower") from error
    if own == TextSpec():
        return own
    return replace(own, name=f"text-{own.text_layers}x{own.text_width}")
