"""CLIP with a vision transformer, whose map keeps each patch's own values in the last block."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from open_clip.model import CLIPVisionCfg
from open_clip.transformer import VisionTransformer
from torch import Tensor

from .class_token_maps import ClassTokenMaps, PatchTowers, PatchTowersSpec
from .dense import check_sides
from .vit_blocks import (
    blocks_of,
    class_token_and_values,
    class_token_only,
    embed_patches,
    run_block,
    run_block_with_watchers,
    value_only,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipVitSpec(PatchTowersSpec):
    """All that fixes the shapes and the mathematics of a :class:`ClipVit`.

    Source:
        CLIP (arXiv:2103.00020), table 20; open_clip ``model_configs/ViT-B-16.json`` and its
        sisters.
    """

    quick_gelu: bool = True
    """OpenAI's towers use QuickGELU, most of open_clip's GELU; part of a checkpoint's entry."""


_VIT_B_16 = ClipVitSpec(
    name="ViT-B-16",
    embed_dim=512,
    image_size=224,
    patch_size=16,
    width=768,
    layers=12,
    text_width=512,
    text_heads=8,
    text_layers=12,
)
_VIT_L_14 = ClipVitSpec(
    name="ViT-L-14",
    embed_dim=768,
    image_size=224,
    patch_size=14,
    width=1024,
    layers=24,
    text_width=768,
    text_heads=12,
    text_layers=12,
)
VIT_SPECS = {
    spec.name: spec
    for spec in (
        replace(_VIT_B_16, name="ViT-B-32", patch_size=32),
        _VIT_B_16,
        _VIT_L_14,
        replace(_VIT_L_14, name="ViT-L-14-336", image_size=336),
    )
}
"""OpenAI's four vision transformers by open_clip's names."""


class VitMaps(ClassTokenMaps[Tensor]):
    """Maps and vectors of open_clip's vision transformer; see :class:`~.dense.DenseViT`."""

    @property
    @abstractmethod
    def visual(self) -> VisionTransformer:
        """The image tower."""

    def encode_masks(
        self, images: Float[Tensor, "B 3 H W"], masks: Sequence[Bool[Tensor, "_ h w"]]
    ) -> list[Float[Tensor, "_ D"]]:
        """Mask attention: a class token per mask that sees the image's own and the mask's patches.

        Args:
            images: As :meth:`dense_features` takes.
            masks: Per image, over its patches; zero masks are fine. An empty mask still sees the
                image's class token.

        Returns:
            Per image, vectors, not normalised.

        Raises:
            ValueError: A mask lies over another grid.

        Source:
            The mask class tokens of MaskCLIP (arXiv:2208.08984).
        """
        grid_hw = check_sides(images, self.cell)
        for own in masks:
            if tuple(own.shape[1:]) != grid_hw:
                raise ValueError(
                    f"masks must lie over the {grid_hw} patches of their image, got "
                    f"{tuple(own.shape[1:])}"
                )
        tokens = embed_patches(self.visual, images)
        most = max((len(each) for each in masks), default=0)
        # a batch's masks are filled up to one number; what the added ones see is dropped
        watched = torch.ones(len(tokens), most, tokens.shape[1], dtype=torch.bool)
        for row, own in zip(watched, masks, strict=True):
            row[: len(own), 1:] = own.flatten(1)
        watched = watched.to(tokens.device)
        watchers = tokens[:, :1].expand(-1, most, -1)
        for block in blocks_of(self.visual):
            tokens, watchers = run_block_with_watchers(block, tokens, watchers, watched)
        vectors = self._joint(watchers)
        return [own[: len(each)] for own, each in zip(vectors, masks, strict=True)]

    def _embed(self, images: Tensor) -> Tensor:
        return embed_patches(self.visual, images)

    def _run_block(self, number: int, state: Tensor) -> Tensor:
        return run_block(blocks_of(self.visual)[number], state)

    def _patches(self, state: Tensor) -> Tensor:
        return state[:, 1:]

    def _last_values(self, patches: Tensor) -> Tensor:
        return value_only(blocks_of(self.visual)[-1], patches)

    def _last_class_token(self, state: Tensor) -> Tensor:
        return class_token_only(blocks_of(self.visual)[-1], state)

    def _last_class_token_and_values(self, state: Tensor) -> Tensor:
        return class_token_and_values(blocks_of(self.visual)[-1], state)

    def _joint(self, tokens: Tensor) -> Tensor:
        return self.visual.ln_post(tokens) @ self.visual.proj


class ClipVit(VitMaps, PatchTowers[Tensor]):
    """A CLIP whose image tower is a vision transformer; a :class:`~.dense.DenseViT`."""

    spec: ClipVitSpec

    def __init__(self, spec: ClipVitSpec) -> None:
        """Build both towers with random weights."""
        super().__init__(
            spec,
            CLIPVisionCfg(
                layers=spec.layers,
                width=spec.width,
                head_width=spec.head_width,
                patch_size=spec.patch_size,
                image_size=spec.image_size,
            ),
        )

    @property
    def visual(self) -> VisionTransformer:
        """The image tower."""
        visual = self.clip.visual
        if not isinstance(visual, VisionTransformer):
            raise TypeError(f"the image tower is a {type(visual).__name__}, not a ViT")
        return visual
