"""CLIP with a ModifiedResNet image tower, split where region methods split it.

The stem up to layer3 makes a map of the whole image (:meth:`ClipResNet.feature_map`); layer4 and
the attention pool make one vector per region and belong to ``regions/``. The modules are
open_clip's, so the keys of a state dict are open_clip's, which are OpenAI's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn

from regionclip.data.transforms import normalize_and_pad

from .fingerprint import text_fingerprint
from .tokenizer import clip_tokenizer, num_merges_of

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
"""RGB statistics of images in [0, 1]; openai/CLIP ``clip/clip.py:_transform``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipResNetSpec:
    """All that fixes the shapes and the mathematics of a :class:`ClipResNet`.

    Source:
        CLIP (arXiv:2103.00020), table 19; open_clip ``model_configs/RN50.json`` and its sisters.
    """

    name: str
    embed_dim: int
    """Width of the joint space, ``D``."""
    image_size: int
    """Side in pixels of a whole image; the attention pool takes a grid of ``image_size // 32``."""
    layers: tuple[int, int, int, int]
    """Blocks of layer1 to layer4."""
    width: int
    """Channels after the stem; layer4 gives ``32 * width``."""
    text_width: int
    text_heads: int
    text_layers: int
    context_length: int = 77
    vocab_size: int = 49408
    quick_gelu: bool = True
    """OpenAI's text towers use QuickGELU; part of a checkpoint's entry, never guessed."""
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD

    @property
    def map_channels(self) -> int:
        """Channels of the map that layer3 gives, ``F``."""
        return 16 * self.width

    @property
    def pool_grid(self) -> int:
        """Rows (and columns) of cells that the attention pool takes."""
        return self.image_size // 32

    @property
    def roi_grid(self) -> int:
        """Rows of bins that ROIAlign cuts from the map, before layer4 halves them."""
        return 2 * self.pool_grid

    def check_text_length(self, length: int) -> None:
        """Refuse to cut prompts to what the text tower cannot read.

        Args:
            length: Tokens of a prompt, start and end included.

        Raises:
            ValueError: There is no room for a word, or there are no positions for so many.
        """
        if not 2 < length <= self.context_length:
            raise ValueError(
                f"text_length must be in (2, {self.context_length}], what the text tower "
                f"has positions for, got {length}"
            )


_RN50 = ClipResNetSpec(
    name="RN50",
    embed_dim=1024,
    image_size=224,
    layers=(3, 4, 6, 3),
    width=64,
    text_width=512,
    text_heads=8,
    text_layers=12,
)
SPECS = {
    spec.name: spec
    for spec in (
        _RN50,
        replace(_RN50, name="RN101", embed_dim=512, layers=(3, 4, 23, 3)),
        ClipResNetSpec(
            name="RN50x4",
            embed_dim=640,
            image_size=288,
            layers=(4, 6, 10, 6),
            width=80,
            text_width=640,
            text_heads=10,
            text_layers=12,
        ),
        ClipResNetSpec(
            name="RN50x16",
            embed_dim=768,
            image_size=384,
            layers=(6, 8, 18, 8),
            width=96,
            text_width=768,
            text_heads=12,
            text_layers=12,
        ),
        ClipResNetSpec(
            name="RN50x64",
            embed_dim=1024,
            image_size=448,
            layers=(3, 15, 36, 10),
            width=128,
            text_width=1024,
            text_heads=16,
            text_layers=12,
        ),
    )
}
"""OpenAI's five ResNets by open_clip's names."""


class ClipResNet(nn.Module):
    """A CLIP whose image tower is a ModifiedResNet.

    Attributes:
        spec: Shapes, preprocessing and activation.
        clip: open_clip's module; its ``visual`` and text parts hold all parameters.
        stride: Pixels per cell of the map.
        reading: See :class:`~.text.TextEncoder`.
    """

    stride = 16
    reading = ""

    def __init__(self, spec: ClipResNetSpec) -> None:
        super().__init__()
        self.spec = spec
        self.clip = CLIP(
            embed_dim=spec.embed_dim,
            vision_cfg=CLIPVisionCfg(
                layers=spec.layers, width=spec.width, image_size=spec.image_size
            ),
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
    def visual(self) -> ModifiedResNet:
        """The image tower."""
        visual = self.clip.visual
        if not isinstance(visual, ModifiedResNet):
            raise TypeError(f"the image tower is a {type(visual).__name__}, not a ModifiedResNet")
        return visual

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

    def prepare(self, images: Sequence[Tensor]) -> Float[Tensor, "B 3 H W"]:
        """Normalise ``(3, H, W)`` RGB images in [0, 1] and pad them to one batch."""
        return normalize_and_pad(
            [image.to(self.device) for image in images], mean=self.spec.mean, std=self.spec.std
        )

    def feature_map(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B F h w"]:
        """Stem to layer3 of normalised images of any size; one cell per 16 pixels."""
        visual = self.visual
        return visual.layer3(visual.layer2(visual.layer1(visual.stem(images))))

    def encode_image(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B D"]:
        """Vectors, not normalised, of normalised images of ``spec.image_size`` pixels a side."""
        return self.visual(images)

    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "N T"]:
        """Token ids, zero-padded; a text that is too long is cut and keeps its end token."""
        return self._tokenize(list(texts))

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
