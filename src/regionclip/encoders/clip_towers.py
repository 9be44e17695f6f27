"""What every CLIP of OpenAI's layout shares: one open_clip module, its text tower and tokenizer.

The modules are open_clip's, so the keys of a state dict are open_clip's, which are OpenAI's.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor, nn

from .fingerprint import text_fingerprint
from .tokenizer import clip_tokenizer, first_tokens, num_merges_of

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
"""RGB statistics of images in [0, 1]; openai/CLIP ``clip/clip.py:_transform``."""


@runtime_checkable
class TowersSpec(Protocol):
    """What the towers of any architecture are told."""

    @property
    def name(self) -> str:
        """The architecture, as ``encoder_id`` begins."""
        ...

    @property
    def embed_dim(self) -> int:
        """Width of the joint space, ``D``."""
        ...

    @property
    def text_width(self) -> int:
        """Channels of the text tower."""
        ...

    @property
    def text_heads(self) -> int:
        """Its attention heads."""
        ...

    @property
    def text_layers(self) -> int:
        """Its blocks."""
        ...

    @property
    def context_length(self) -> int:
        """Tokens that it has positions for."""
        ...

    @property
    def vocab_size(self) -> int:
        """Tokens that it knows."""
        ...

    @property
    def quick_gelu(self) -> bool:
        """Whether both towers have QuickGELU for GELU."""
        ...


def without_image_tower(image_size: int) -> CLIPVisionCfg:
    """An image tower of no blocks, where another library's is to stand.

    open_clip builds no tower of timm's of any but released sizes.
    """
    return CLIPVisionCfg(layers=0, patch_size=image_size, image_size=image_size)


class ClipTowers(nn.Module):
    """An image tower and the text tower of the same space.

    Attributes:
        clip: open_clip's module; its ``visual`` and text parts hold all parameters.
        reading: See :class:`~.text.TextEncoder`.
    """

    reading = ""

    def __init__(self, spec: TowersSpec, vision: CLIPVisionCfg) -> None:
        """Build both towers with random weights.

        Args:
            spec: Shapes and activation.
            vision: The image tower, as open_clip describes it.
        """
        super().__init__()
        self.spec = spec
        self.clip = CLIP(
            embed_dim=spec.embed_dim,
            vision_cfg=vision,
            text_cfg=CLIPTextCfg(
                context_length=spec.context_length,
                vocab_size=spec.vocab_size,
                width=spec.text_width,
                heads=spec.text_heads,
                layers=spec.text_layers,
            ),
            quick_gelu=spec.quick_gelu,
        )
        self._tokenize = clip_tokenizer(
            num_merges=num_merges_of(spec.vocab_size), context_length=spec.context_length
        )

    @property
    def _causal_mask(self) -> Tensor:
        return self.clip.get_buffer("attn_mask")

    @property
    def _text_projection(self) -> Tensor:
        return self.clip.get_parameter("text_projection")

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.clip.logit_scale.device

    @property
    def encoder_id(self) -> str:
        """Architecture and fingerprint of the text tower, such as ``RN50:1f4c9a0be2d1``.

        Every image tower that was trained against one frozen text tower shares its space, as
        RegionCLIP's students do with OpenAI's; so the text tower alone names the space. Computed
        from all of its weights at each call, since they may be in training.
        """
        # heads and activation change text vectors, and no tensor's shape tells them
        settings = f"{self.spec.text_heads} heads, quick_gelu={self.spec.quick_gelu}"
        return f"{self.spec.name}:{text_fingerprint(self.clip.state_dict(), settings=settings)}"

    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "N T"]:
        """Token ids, zero-padded; a text that is too long is cut and keeps its end token."""
        return self._tokenize(list(texts))

    def first_tokens(self, texts: Sequence[str]) -> Int[Tensor, "N T"]:
        """As :meth:`tokenize`, but a text that is too long loses its end token."""
        return first_tokens(self._tokenize, texts, context_length=self.spec.context_length)

    def encode_tokens(self, tokens: Int[Tensor, "N T"]) -> Float[Tensor, "N D"]:
        """Vectors, not normalised, read at the end token of each row.

        ``T`` may be shorter than the context: columns that are padding in every row can be left
        out, since the causal mask keeps them from every earlier position.
        """
        hidden = self._hidden(tokens)
        # the end token has the highest id, so argmax finds it (openai/CLIP clip/model.py:354)
        ends = tokens.argmax(dim=-1).to(hidden.device)
        return hidden[torch.arange(len(hidden), device=hidden.device), ends] @ self._text_projection

    def encode_positions(self, tokens: Int[Tensor, "N T"]) -> Float[Tensor, "N T D"]:
        """Vectors, not normalised, of every position: what the text says up to there."""
        return self._hidden(tokens) @ self._text_projection

    def _hidden(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        part = self.clip.get_submodule
        positions = self.clip.get_parameter("positional_embedding")[:length]
        x = part("token_embedding")(tokens.to(self.device)) + positions
        x = part("transformer")(x, attn_mask=self._causal_mask[:length, :length])
        return part("ln_final")(x)
