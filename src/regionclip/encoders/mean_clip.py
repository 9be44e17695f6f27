"""CLIPs whose vector of an image is the mean of its last map: towers of timm's, of any size.

Those of RegionCLIP's zero-shot branch: a plain ViT, Swin, DaViT and FocalNet, trained as UniCL is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from timm.models.davit import DaVit
from timm.models.focalnet import FocalNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from .clip_towers import OPENAI_MEAN, OPENAI_STD, ClipTowers, without_image_tower
from .dense import as_map
from .vit_blocks import resized_positions

Trunk = Literal["vit", "swin", "davit", "focalnet"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MeanClipSpec:
    """All that fixes the shapes and the mathematics of a :class:`MeanClip`.

    Source:
        microsoft/RegionCLIP, branch ``zero-shot``, configurations of its encoders. No weights were
        released: activation of the text tower and statistics of images are CLIP's here.
    """

    name: str
    trunk: Trunk
    width: int
    """Channels of the first stage; each further one has twice as many. A ViT has one stage."""
    depths: tuple[int, ...]
    """Blocks per stage."""
    heads: tuple[int, ...] = ()
    """Attention heads per stage; FocalNet has none."""
    image_size: int = 224
    """Side in pixels of the images that it was trained on."""
    embed_dim: int = 512
    """Width of the joint space, ``D``."""
    text_width: int = 512
    text_heads: int = 8
    text_layers: int = 12
    causal_text: bool = False
    """Whether a token of a text sees only those before it; upstream ``TEXT.AUTOGRESSIVE``."""
    context_length: int = 77
    vocab_size: int = 49408
    quick_gelu: bool = True
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD

    @property
    def cell(self) -> int:
        """Pixels per cell of the last map and side."""
        return 16 if self.trunk == "vit" else 32

    @property
    def map_channels(self) -> int:
        """Channels of the last map, ``C``."""
        return self.width * 2 ** (len(self.depths) - 1)


MEAN_SPECS = {
    spec.name: spec
    for spec in (
        MeanClipSpec(name="UniCL-ViT-B-16", trunk="vit", width=768, depths=(12,), heads=(12,)),
        MeanClipSpec(
            name="UniCL-Swin-B",
            trunk="swin",
            width=128,
            depths=(2, 2, 18, 2),
            heads=(4, 8, 16, 32),
            causal_text=True,
        ),
        MeanClipSpec(
            name="UniCL-DaViT-d3",
            trunk="davit",
            width=128,
            depths=(1, 1, 9, 1),
            heads=(4, 8, 16, 32),
        ),
        MeanClipSpec(name="UniCL-FocalNet-B", trunk="focalnet", width=128, depths=(2, 2, 18, 2)),
    )
}
"""The branch's four encoders."""


class MeanClip(ClipTowers):
    """An image tower with one norm and one projection after the mean, and a text tower.

    Attributes:
        spec: Shapes, preprocessing and activation.
        cell: Pixels per cell of the map and side.
        embed_dim: Width of the joint space, ``D``.
        image_size: Side in pixels of a whole image.
        image_size_hw: The same twice.
        mean: Per channel, of RGB in [0, 1].
        std: Per channel, of RGB in [0, 1].
        image_projection: ``(C, D)``, after the norm.
    """

    spec: MeanClipSpec

    def __init__(self, spec: MeanClipSpec) -> None:
        """Build both towers with random weights."""
        super().__init__(spec, without_image_tower(spec.image_size))
        self.clip.register_module("visual", _BUILDERS[spec.trunk](spec))
        channels = spec.map_channels
        # a ViT's patches are normed one by one, before their mean
        self.norm = nn.Identity() if spec.trunk == "vit" else nn.LayerNorm(channels)
        self.image_projection = nn.Parameter(torch.randn(channels, spec.embed_dim) * channels**-0.5)
        self.cell, self.embed_dim = spec.cell, spec.embed_dim
        self.image_size, self.image_size_hw = spec.image_size, (spec.image_size, spec.image_size)
        self.mean, self.std = spec.mean, spec.std

    def feature_map(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """The last stage's map of normalised images of any size, before the mean.

        Of a ViT, what lies beyond the last whole patch is cut off; for the others, images are
        filled up to whole cells with the mean colour.
        """
        if self.spec.trunk != "vit":
            height, width = images.shape[2:]
            images = F.pad(images, (0, -width % self.cell, 0, -height % self.cell))
        return _MAPS[self.spec.trunk](self.clip.visual, images)

    def encode_means(self, means: Float[Tensor, "R C"]) -> Float[Tensor, "R D"]:
        """Means over cells, of whole maps or of regions, to the joint space, not normalised."""
        return self.norm(means) @ self.image_projection

    def encode_image(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """Vectors, not normalised, of normalised images of any size."""
        return self.encode_means(self.feature_map(images).mean(dim=(2, 3)))

    def _hidden(self, tokens: Int[Tensor, "N T"]) -> Tensor:
        if self.spec.causal_text:
            return super()._hidden(tokens)
        # a token sees those after it, padding too: what was cut off is put back
        padding = tokens.new_zeros(len(tokens), self.spec.context_length - tokens.shape[1])
        part = self.clip.get_submodule
        x = part("token_embedding")(torch.cat([tokens, padding], dim=1).to(self.device))
        x = part("transformer")(x + self.clip.get_parameter("positional_embedding"))
        return part("ln_final")(x)


def _vit(spec: MeanClipSpec) -> nn.Module:
    return VisionTransformer(
        img_size=spec.image_size,
        patch_size=spec.cell,
        num_classes=0,
        global_pool="avg",  # puts the last norm after the blocks, under the name fc_norm
        embed_dim=spec.width,
        depth=spec.depths[0],
        num_heads=spec.heads[0],
    )


def _swin(spec: MeanClipSpec) -> nn.Module:
    trunk = SwinTransformer(
        img_size=spec.image_size,
        num_classes=0,
        embed_dim=spec.width,
        depths=spec.depths,
        num_heads=spec.heads,
        strict_img_size=False,
    )
    trunk.norm = nn.Identity()
    return trunk


def _davit(spec: MeanClipSpec) -> nn.Module:
    widths = tuple(spec.width * 2**stage for stage in range(len(spec.depths)))
    trunk = DaVit(num_classes=0, depths=spec.depths, embed_dims=widths, num_heads=spec.heads)
    trunk.norm_pre = nn.Identity()
    trunk.register_module("head", nn.Identity())
    return trunk


def _focalnet(spec: MeanClipSpec) -> nn.Module:
    stages = len(spec.depths)
    trunk = FocalNet(
        num_classes=0,
        embed_dim=spec.width,
        depths=spec.depths,
        focal_levels=(3,) * stages,
        focal_windows=(3,) * stages,
        use_overlap_down=True,
        use_post_norm=True,
        layerscale_value=1e-4,
    )
    trunk.norm = nn.Identity()
    trunk.register_module("head", nn.Identity())
    return trunk


_BUILDERS: dict[Trunk, Callable[[MeanClipSpec], nn.Module]] = {
    "vit": _vit,
    "swin": _swin,
    "davit": _davit,
    "focalnet": _focalnet,
}


def _vit_map(trunk: Any, images: Tensor) -> Tensor:
    patch = trunk.patch_embed.patch_size[0]
    height, width = (side // patch * patch for side in images.shape[2:])
    patches = trunk.patch_embed.proj(images[:, :, :height, :width])
    grid_hw = (int(patches.shape[2]), int(patches.shape[3]))
    tokens = patches.flatten(2).transpose(1, 2)
    tokens = torch.cat([trunk.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
    trained = (int(trunk.patch_embed.grid_size[0]), int(trunk.patch_embed.grid_size[1]))
    tokens = tokens + resized_positions(trunk.pos_embed[0], trained, grid_hw).to(tokens.dtype)
    tokens = trunk.fc_norm(trunk.norm(trunk.blocks(trunk.norm_pre(tokens))))
    return as_map(tokens[:, 1:], grid_hw)


def _channels_last_map(trunk: Any, images: Tensor) -> Tensor:
    return trunk.forward_features(images).permute(0, 3, 1, 2)


def _channels_first_map(trunk: Any, images: Tensor) -> Tensor:
    return trunk.forward_features(images)


_MAPS: dict[Trunk, Callable[[Any, Tensor], Tensor]] = {
    "vit": _vit_map,
    "swin": _channels_last_map,
    "davit": _channels_first_map,
    "focalnet": _channels_first_map,
}
