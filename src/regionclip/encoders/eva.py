"""EVA-02 CLIP: rotated positions of any grid, and a map of each patch's own values."""

from abc import abstractmethod
from dataclasses import dataclass, replace

from timm.models.eva import Eva
from torch import Tensor

from .class_token_maps import ClassTokenMaps, PatchTowers, PatchTowersSpec
from .clip_towers import without_image_tower
from .eva_blocks import (
    EvaTokens,
    blocks_of,
    class_token_and_values,
    class_token_only,
    embed_patches,
    run_block,
    value_only,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaClipSpec(PatchTowersSpec):
    """All that fixes the shapes and the mathematics of an :class:`EvaClip`.

    Source:
        EVA-CLIP (arXiv:2303.15389), table 1; timm ``models/eva.py``
        (``eva02_base_patch16_clip_224`` and its sisters); open_clip
        ``model_configs/EVA02-B-16.json`` and its sisters.
    """

    quick_gelu: bool = False
    """EVA-CLIP's text towers use GELU; part of a checkpoint's entry."""
    rotation_span: int = 16
    """Cells per side that every grid is spread over before patches are rotated."""


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


class EvaMaps(ClassTokenMaps[EvaTokens]):
    """Maps and vectors of an EVA transformer with a class token; see :class:`~.dense.DenseViT`."""

    @property
    @abstractmethod
    def trunk(self) -> Eva:
        """The image tower."""

    def _embed(self, images: Tensor) -> EvaTokens:
        return embed_patches(self.trunk, images)

    def _run_block(self, number: int, state: EvaTokens) -> EvaTokens:
        return run_block(blocks_of(self.trunk)[number], state)

    def _patches(self, state: EvaTokens) -> Tensor:
        return state.patches

    def _last_values(self, patches: Tensor) -> Tensor:
        return value_only(blocks_of(self.trunk)[-1], patches)

    def _last_class_token(self, state: EvaTokens) -> Tensor:
        return class_token_only(blocks_of(self.trunk)[-1], state)

    def _last_class_token_and_values(self, state: EvaTokens) -> Tensor:
        return class_token_and_values(blocks_of(self.trunk)[-1], state)

    def _joint(self, tokens: Tensor) -> Tensor:
        return self.trunk.head(self.trunk.fc_norm(self.trunk.norm(tokens)))


class EvaClip(EvaMaps, PatchTowers[EvaTokens]):
    """A CLIP whose image tower is an EVA-02 transformer; a :class:`~.dense.DenseViT`.

    The image tower is timm's, under the name ``visual``.
    """

    spec: EvaClipSpec

    def __init__(self, spec: EvaClipSpec) -> None:
        """Build both towers with random weights."""
        super().__init__(spec, without_image_tower(spec.image_size))
        self.clip.register_module("visual", _trunk(spec))

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
