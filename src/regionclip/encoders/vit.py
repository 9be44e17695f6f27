"""CLIP with a vision transformer, whose map keeps each patch's own values in the last block."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from open_clip.model import CLIPVisionCfg
from open_clip.transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional as F

from .clip_towers import OPENAI_MEAN, OPENAI_STD, ClipTowers
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
class ClipVitSpec:
    """All that fixes the shapes and the mathematics of a :class:`ClipVit`.

    Source:
        CLIP (arXiv:2103.00020), table 20; open_clip ``model_configs/ViT-B-16.json`` and its
        sisters.
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
    context_length: int = 77
    vocab_size: int = 49408
    quick_gelu: bool = True
    """OpenAI's towers use QuickGELU, most of open_clip's GELU; part of a checkpoint's entry."""
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


class VitMaps(ABC):
    """Maps and vectors of open_clip's vision transformer; see :class:`~.dense.DenseViT`.

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
    def visual(self) -> VisionTransformer:
        """The image tower."""

    def dense_features(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        """Vectors of length one of all patches, unmixed in the last block (value-only form)."""
        return self.token_maps(images, ())[1]

    def encode_image(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """Class token's vectors, not normalised; sides are multiples of ``cell``."""
        tokens, _ = self._before_last(images)
        return self._joint(class_token_only(blocks_of(self.visual)[-1], tokens)[:, 0])

    def dense_and_whole(
        self, images: Float[Tensor, "B 3 H W"]
    ) -> tuple[Float[Tensor, "B D h w"], Float[Tensor, "B D"]]:
        """What :meth:`dense_features` and :meth:`encode_image` give, from one trunk."""
        tokens, grid_hw = self._before_last(images)
        vectors = self._joint(class_token_and_values(blocks_of(self.visual)[-1], tokens))
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

        def keep(number: int, tokens: Tensor) -> None:
            if number in blocks:
                maps[number] = tokens[:, 1:]

        tokens, grid_hw = self._before_last(images, keep)
        # no other patch is asked in the last block, so the class token is of no use there
        last = value_only(blocks_of(self.visual)[-1], tokens[:, 1:])
        kept = [as_map(maps.get(number, last), grid_hw) for number in blocks]
        return kept, as_map(F.normalize(self._joint(last), dim=2), grid_hw)

    def plain_features(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        """The map that the tower gives as it was trained, mixed in the last block too."""
        tokens, grid_hw = self._before_last(images)
        tokens = run_block(blocks_of(self.visual)[-1], tokens)[:, 1:]
        return as_map(F.normalize(self._joint(tokens), dim=2), grid_hw)

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

    def _before_last(
        self, images: Tensor, keep: Callable[[int, Tensor], None] | None = None
    ) -> tuple[Tensor, tuple[int, int]]:
        """Tokens that enter the last block, and the grid; ``keep`` is shown those of each block."""
        grid_hw = check_sides(images, self.cell)
        tokens = embed_patches(self.visual, images)
        for number, block in enumerate(blocks_of(self.visual)[:-1]):
            tokens = run_block(block, tokens)
            if keep is not None:
                keep(number, tokens)
        return tokens, grid_hw

    def _joint(self, tokens: Tensor) -> Tensor:
        """Tokens after the last block, to the joint space."""
        return self.visual.ln_post(tokens) @ self.visual.proj


class ClipVit(VitMaps, ClipTowers):
    """A CLIP whose image tower is a vision transformer; a :class:`~.dense.DenseViT`.

    Attributes:
        spec: Shapes, preprocessing and activation.
        embed_dim: Width of the joint space, ``D``.
        image_size: Side in pixels of a whole image.
        image_size_hw: The same twice.
        mean: Per channel, of RGB in [0, 1].
        std: Per channel, of RGB in [0, 1].
    """

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
        self.cell, self.width, self.num_blocks = spec.patch_size, spec.width, spec.layers
        self.embed_dim, self.image_size = spec.embed_dim, spec.image_size
        self.image_size_hw = (spec.image_size, spec.image_size)
        self.mean, self.std = spec.mean, spec.std

    @property
    def visual(self) -> VisionTransformer:
        """The image tower."""
        visual = self.clip.visual
        if not isinstance(visual, VisionTransformer):
            raise TypeError(f"the image tower is a {type(visual).__name__}, not a ViT")
        return visual


def as_map(
    tokens: Float[Tensor, "B N F"], grid_hw: tuple[int, int]
) -> Float[Tensor, "B F {grid_hw[0]} {grid_hw[1]}"]:
    """Patches row by row, to a map."""
    return tokens.transpose(1, 2).unflatten(2, grid_hw)
