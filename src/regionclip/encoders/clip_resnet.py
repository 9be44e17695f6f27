"""CLIP with a ModifiedResNet image tower, split where region methods split it.

The stem up to layer3 makes a map of the whole image (:meth:`ClipResNet.feature_map`); layer4 and
the attention pool make one vector per region and belong to ``regions/``. The modules are
open_clip's, so the keys of a state dict are open_clip's, which are OpenAI's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from open_clip.model import CLIPVisionCfg
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor

from regionclip.data.transforms import normalize_and_pad

from .clip_towers import OPENAI_MEAN, OPENAI_STD, ClipTowers


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


class ClipResNet(ClipTowers):
    """A CLIP whose image tower is a ModifiedResNet.

    Attributes:
        spec: Shapes, preprocessing and activation.
        stride: Pixels per cell of the map.
        image_size_hw: Height and width of a whole image.
        mean: Per channel, of RGB in [0, 1].
        std: Per channel, of RGB in [0, 1].
    """

    stride = 16
    spec: ClipResNetSpec

    def __init__(self, spec: ClipResNetSpec) -> None:
        super().__init__(
            spec,
            CLIPVisionCfg(layers=spec.layers, width=spec.width, image_size=spec.image_size),
        )
        self.image_size_hw = (spec.image_size, spec.image_size)
        self.mean, self.std = spec.mean, spec.std

    @property
    def visual(self) -> ModifiedResNet:
        """The image tower."""
        visual = self.clip.visual
        if not isinstance(visual, ModifiedResNet):
            raise TypeError(f"the image tower is a {type(visual).__name__}, not a ModifiedResNet")
        return visual

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
