"""EVA-02 CLIP: rotated positions of any grid, and a map of each patch's own values."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from open_clip.model import CLIPVisionCfg
from timm.models.eva import Eva
from torch import Tensor
from torch.nn import functional as F

from .clip_towers import OPENAI_MEAN, OPENAI_STD, ClipTowers
from .dense import check_sides
from .eva_blocks import (
    EvaTokens,
    blocks_of,
    class_token_and_values,
    class_token_only,
    embed_patches,
    run_block,
    value_only,
)
from .vit import as_map


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaClipSpec:
    """All that fixes the shapes and the mathematics of an :class:`EvaClip`.

    Source:
        EVA-CLIP (arXiv:2303.15389), table 1; timm ``models/eva.py``
        (``eva02_base_patch16_clip_224`` and its sisters); open_clip
        ``model_configs/EVA02-B-16.json`` and its sisters.
    """

    name: str
    embed_dim: int
    """Width of the joint space, ``D``."""
    image_size: int
    """Side in pixels of a whole image."""
    patch_size: int
    """Pixels per patch and side: a cell of the map."""
    width: int
    """Channels of the image tower, ``F``."""
    layers: int
    """Blocks of the image tower."""
    text_width: int
    text_heads: int
    text_layers: int
    head_width: int = 64
    """Channels per attention head of the image tower."""
    rotation_span: int = 16
    """Cells per side that every grid is spread over before patches are rotated."""
    context_length: int = 77
    vocab_size: int = 49408
    quick_gelu: bool = False
    """EVA-CLIP's text towers use GELU; part of a checkpoint's entry."""
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size must be a multiple of patch_size = {self.patch_size}, "
                f"got {self.image_size}"
            )
        if self.width % self.head_width:
            raise ValueError(
                f"width must be a multiple of head_width = {self.head_width}, got {self.width}"
            )


_L_14 = EvaClipSpec(
    name="EVA02-L-14",
    embed_dim=768,
    image_size=224,
    patch_size=14,
    width=1024,
    layers=24,
    text_width=768,
    text_heads=12,
    text_layers=12,
)
EVA_SPECS = {
    spec.name: spec
    for spec in (
        EvaClipSpec(
            name="EVA02-B-16",
            embed_dim=512,
            image_size=224,
            patch_size=16,
            width=768,
            layers=12,
            text_width=512,
            text_heads=8,
            text_layers=12,
        ),
        _L_14,
        replace(_L_14, name="EVA02-L-14-336", image_size=336),
    )
}
"""EVA-02's towers of base and large size by open_clip's names."""


class EvaMaps(ABC):
    """Maps and vectors of an EVA transformer with a class token; a :class:`~.dense.DenseViT`'s.

    Attributes:
        cell: Pixels per patch and side.
        width: Channels of a block's output, ``F``.
        num_blocks: Blocks in all.
    """

    cell: int
    width: int
    num_blocks: int

    @property
    @abstractmethod
    def trunk(self) -> Eva:
        """The image tower."""

    def dense_features(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        """Vectors of length one of all patches, unmixed in the last block (value-only form)."""
        return self.token_maps(images, ())[1]

    def encode_image(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """Class token's vectors, not normalised; sides are multiples of ``cell``."""
        state, _ = self._before_last(images)
        return self._joint(class_token_only(blocks_of(self.trunk)[-1], state)[:, 0])

    def dense_and_whole(
        self, images: Float[Tensor, "B 3 H W"]
    ) -> tuple[Float[Tensor, "B D h w"], Float[Tensor, "B D"]]:
        """What :meth:`dense_features` and :meth:`encode_image` give, from one trunk."""
        state, grid_hw = self._before_last(images)
        vectors = self._joint(class_token_and_values(blocks_of(self.trunk)[-1], state))
        return as_map(F.normalize(vectors[:, 1:], dim=2), grid_hw), vectors[:, 0]

    def token_maps(
        self, images: Float[Tensor, "B 3 H W"], blocks: Sequence[int]
    ) -> tuple[list[Float[Tensor, "B F h w"]], Float[Tensor, "B D h w"]]:
        """Patch tokens after some blocks, and the map; see :class:`~.dense.DenseViT`.

        Raises:
            ValueError: A side is no multiple of ``cell``, or ``blocks`` are not increasing or not
                among the tower's.
        """
        if list(blocks) != sorted(set(blocks)) or not set(blocks) <= set(range(self.num_blocks)):
            raise ValueError(
                f"blocks must be increasing numbers below {self.num_blocks}, got {list(blocks)}"
            )
        maps: dict[int, Tensor] = {}

        def keep(number: int, patches: Tensor) -> None:
            if number in blocks:
                maps[number] = patches

        state, grid_hw = self._before_last(images, keep)
        # no other patch is asked in the last block, so the class token is of no use there
        last = value_only(blocks_of(self.trunk)[-1], state.patches)
        kept = [as_map(maps.get(number, last), grid_hw) for number in blocks]
        return kept, as_map(F.normalize(self._joint(last), dim=2), grid_hw)

    def plain_features(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        """The map that the tower gives as it was trained, mixed in the last block too."""
        state, grid_hw = self._before_last(images)
        state = run_block(blocks_of(self.trunk)[-1], state)
        return as_map(F.normalize(self._joint(state.patches), dim=2), grid_hw)

    def _before_last(
        self, images: Tensor, keep: Callable[[int, Tensor], None] | None = None
    ) -> tuple[EvaTokens, tuple[int, int]]:
        """What enters the last block, and the grid; ``keep`` is shown each block's patches."""
        grid_hw = check_sides(images, self.cell)
        state = embed_patches(self.trunk, images)
        for number, block in enumerate(blocks_of(self.trunk)[:-1]):
            state = run_block(block, state)
            if keep is not None:
                keep(number, state.patches)
        return state, grid_hw

    def _joint(self, tokens: Tensor) -> Tensor:
        """Tokens after the last block, to the joint space."""
        return self.trunk.head(self.trunk.fc_norm(self.trunk.norm(tokens)))


class EvaClip(EvaMaps, ClipTowers):
    """A CLIP whose image tower is an EVA-02 transformer; a :class:`~.dense.DenseViT`.

    The image tower is timm's, under the name ``visual``.

    Attributes:
        spec: Shapes, preprocessing and activation.
        embed_dim: Width of the joint space, ``D``.
        image_size: Side in pixels of a whole image.
        image_size_hw: The same twice.
        mean: Per channel, of RGB in [0, 1].
        std: Per channel, of RGB in [0, 1].
    """

    spec: EvaClipSpec

    def __init__(self, spec: EvaClipSpec) -> None:
        """Build both towers with random weights."""
        # open_clip builds no tower of timm's of any but released sizes: an empty one stands in
        empty = CLIPVisionCfg(layers=0, patch_size=spec.image_size, image_size=spec.image_size)
        super().__init__(spec, empty)
        self.clip.register_module("visual", _trunk(spec))
        self.cell, self.width, self.num_blocks = spec.patch_size, spec.width, spec.layers
        self.embed_dim, self.image_size = spec.embed_dim, spec.image_size
        self.image_size_hw = (spec.image_size, spec.image_size)
        self.mean, self.std = spec.mean, spec.std

    @property
    def trunk(self) -> Eva:
        """The image tower."""
        trunk = self.clip.visual
        if not isinstance(trunk, Eva):
            raise TypeError(f"the image tower is a {type(trunk).__name__}, not an EVA")
        return trunk


def _trunk(spec: EvaClipSpec) -> Eva:
    """A transformer of timm's with norms inside attention and feed-forward part, as EVA-CLIP's."""
    return Eva(
        img_size=spec.image_size,
        patch_size=spec.patch_size,
        num_classes=spec.embed_dim,
        global_pool="token",
        embed_dim=spec.width,
        depth=spec.layers,
        num_heads=spec.width // spec.head_width,
        qkv_fused=False,
        mlp_ratio=4 * 2 / 3,
        swiglu_mlp=True,
        scale_mlp=True,
        scale_attn_inner=True,
        use_rot_pos_emb=True,
        ref_feat_shape=(spec.rotation_span, spec.rotation_span),
        dynamic_img_size=True,
    )
