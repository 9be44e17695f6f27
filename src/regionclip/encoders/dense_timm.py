"""open_clip's models whose image tower is timm's, with the dense form that its pool allows.

A sound form is one in which the pool, asked about a single place, gives that place's vector: what
mixed places is undone where the vector of the whole image was made, and nowhere else.
"""

from abc import ABC, abstractmethod
from typing import Any, TypeVar

from jaxtyping import Float
from open_clip.timm_model import TimmModel
from timm.layers.attention_pool import AttentionPoolLatent
from timm.layers.classifier import NormMlpClassifierHead
from timm.models.convnext import ConvNeXt
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from .crop_encoder import OpenClipEncoder
from .dense import NoDenseFormError, as_map, check_sides
from .eva import EvaMaps
from .eva_blocks import blocks_of, embed_patches, run_block
from .vit_blocks import resized_cells

T = TypeVar("T")


class DenseTimm(OpenClipEncoder, ABC):
    """An open_clip model with an image tower of timm's; a :class:`~.dense.DenseEncoder`.

    Attributes:
        visual: The image tower: timm's trunk, and what open_clip adds to it.
        embed_dim: Width of the joint space, ``D``.
        image_size: Side in pixels of a whole image.
        cell: Pixels per cell of the map and side.
    """

    cell: int

    def __init__(self, encoder: OpenClipEncoder) -> None:
        """Share the weights of ``encoder``.

        Raises:
            NoDenseFormError: Its image tower is of another kind.
        """
        super().__init__(encoder.model, name=encoder.name, tokenize=encoder.tokenizer)
        self.image_size = self.image_size_hw[0]
        self.embed_dim = width_of_joint_space(self.visual)

    # what is found here is no attribute of this module, which would list its parameters twice
    @property
    def visual(self) -> TimmModel:
        """The image tower."""
        return timm_tower(self)

    def dense_features(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D h w"]:
        """Vectors of length one of all places."""
        grid_hw = check_sides(images, self.cell)
        return self._map(self._trunk_output(images), grid_hw)

    def encode_image(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        """Vectors, not normalised, as the tower pools them.

        Sides are multiples of ``cell``, or the trained size, where that is none: of SigLIP's 384
        pixels its patches of 14 leave out the last 6.
        """
        if tuple(images.shape[2:]) != self.image_size_hw:
            check_sides(images, self.cell)
        return self._pooled(self._trunk_output(images))

    def dense_and_whole(
        self, images: Float[Tensor, "B 3 H W"]
    ) -> tuple[Float[Tensor, "B D h w"], Float[Tensor, "B D"]]:
        """What :meth:`dense_features` and :meth:`encode_image` give, from one trunk."""
        grid_hw = check_sides(images, self.cell)
        output = self._trunk_output(images)
        return self._map(output, grid_hw), self._pooled(output)

    def _map(self, output: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        return as_map(F.normalize(self._places(output), dim=2), grid_hw)

    def _pooled(self, output: Tensor) -> Tensor:
        """``(B, D)``, one vector per image."""
        return self.visual.head(self._trunk.forward_head(output))

    @property
    @abstractmethod
    def _trunk(self) -> Any:
        """The image tower without what open_clip adds to it."""

    @abstractmethod
    def _trunk_output(self, images: Tensor) -> Tensor:
        """What the pool takes, for images of any size."""

    @abstractmethod
    def _places(self, output: Tensor) -> Tensor:
        """``(B, N, D)``, what the pool would make of each place alone, row by row."""


class DenseConvNext(DenseTimm):
    """ConvNeXt: the mean over places is left out, its norm and projection stay.

    With one place the mean is that place, so that map and vector are the same.
    """

    cell = 32

    def __init__(self, encoder: OpenClipEncoder) -> None:
        """Share the weights of ``encoder``; see :class:`DenseTimm`."""
        super().__init__(encoder)
        if self._head.global_pool.pool_type != "avg":
            raise NoDenseFormError(
                "this ConvNeXt pools by another rule than the mean; use whole crops"
            )

    @property
    def _trunk(self) -> ConvNeXt:
        return of_kind(self.visual.trunk, ConvNeXt)

    @property
    def _head(self) -> NormMlpClassifierHead:
        return of_kind(self._trunk.head, NormMlpClassifierHead)

    def _trunk_output(self, images: Tensor) -> Tensor:
        return self._trunk.forward_features(images)

    def _places(self, output: Tensor) -> Tensor:
        places = self._head.norm(output).flatten(2).transpose(1, 2)
        return self.visual.head(places)


class DenseAttentionPooled(DenseTimm):
    """The attention pool's values, each place by itself.

    The pool's weights over places sum to one per head, so places that are alike have the vector of
    the whole image, and so has a place that is alone. A class token, which the pool sees too where
    there is one, is left out of the map.
    """

    def __init__(self, encoder: OpenClipEncoder) -> None:
        """Share the weights of ``encoder``; see :class:`DenseTimm`."""
        super().__init__(encoder)
        known_pool(self._trunk.attn_pool)
        self.cell = int(self._trunk.patch_embed.patch_size[0])

    def _places(self, output: Tensor) -> Tensor:
        trunk = self._trunk
        patches = output[:, trunk.num_prefix_tokens :]
        values = trunk.fc_norm(pool_values(known_pool(trunk.attn_pool), patches))
        return self.visual.head(trunk.head(values))


class DenseSigLip(DenseAttentionPooled):
    """SigLIP and SigLIP 2."""

    def __init__(self, encoder: OpenClipEncoder) -> None:
        """Share the weights of ``encoder``; see :class:`DenseTimm`."""
        super().__init__(encoder)
        if self._trunk.num_prefix_tokens:
            raise NoDenseFormError(
                "this tower has further tokens, unlike SigLIP's; use whole crops"
            )

    @property
    def _trunk(self) -> VisionTransformer:
        return of_kind(self.visual.trunk, VisionTransformer)

    def _trunk_output(self, images: Tensor) -> Tensor:
        trunk = self._trunk
        patches = trunk.patch_embed.proj(images)
        grid_hw = (int(patches.shape[2]), int(patches.shape[3]))
        tokens = trunk.patch_embed.norm(patches.flatten(2).transpose(1, 2))
        trained = (int(trunk.patch_embed.grid_size[0]), int(trunk.patch_embed.grid_size[1]))
        positions = resized_cells(trunk.get_parameter("pos_embed")[0], trained, grid_hw)
        tokens = trunk.norm_pre(tokens + positions.to(tokens.dtype))
        return trunk.norm(trunk.blocks(tokens))


class DensePerceptionEncoder(DenseAttentionPooled):
    """The Perception Encoder's CLIP (PE-Core), of any size."""

    def __init__(self, encoder: OpenClipEncoder) -> None:
        """Share the weights of ``encoder``; see :class:`DenseTimm`."""
        super().__init__(encoder)
        blocks_of(self._trunk)

    @property
    def _trunk(self) -> Eva:
        return of_kind(self.visual.trunk, Eva)

    def _trunk_output(self, images: Tensor) -> Tensor:
        state = embed_patches(self._trunk, images)
        for block in blocks_of(self._trunk):
            state = run_block(block, state)
        return self._trunk.norm(state.tokens)


class DenseOpenClipEva(EvaMaps, OpenClipEncoder):
    """EVA-CLIP of any generation and size by open_clip's names; a :class:`~.dense.DenseViT`.

    Attributes:
        embed_dim: Width of the joint space, ``D``.
        image_size: Side in pixels of a whole image.
    """

    def __init__(self, encoder: OpenClipEncoder) -> None:
        """Share the weights of ``encoder``.

        Raises:
            NoDenseFormError: Its image tower is of another kind.
        """
        super().__init__(encoder.model, name=encoder.name, tokenize=encoder.tokenizer)
        visual = timm_tower(encoder)
        trunk = self.trunk
        if trunk.global_pool != "token" or len(visual.head):
            raise NoDenseFormError(
                "this tower pools unlike EVA-CLIP's, or projects; use whole crops"
            )
        self.num_blocks, self.width = len(blocks_of(trunk)), trunk.embed_dim
        self.cell = int(trunk.patch_embed.patch_size[0])
        self.embed_dim, self.image_size = width_of_joint_space(visual), self.image_size_hw[0]

    @property
    def trunk(self) -> Eva:
        """The image tower."""
        return of_kind(timm_tower(self).trunk, Eva)


def of_kind(module: object, kind: type[T]) -> T:
    """A module of a kind.

    Raises:
        NoDenseFormError: It is of another.
    """
    if not isinstance(module, kind):
        raise NoDenseFormError(f"a {type(module).__name__} is no {kind.__name__}; use whole crops")
    return module


def timm_tower(encoder: OpenClipEncoder) -> TimmModel:
    """The image tower of a model.

    Raises:
        NoDenseFormError: It is not timm's.
    """
    return of_kind(encoder.model.get_submodule("visual"), TimmModel)


def width_of_joint_space(visual: TimmModel) -> int:
    """What the last linear layer of a tower gives, or the trunk where nothing follows it."""
    trunk: Any = visual.trunk
    for part in (*reversed(list(visual.head.modules())), trunk.get_classifier()):
        if isinstance(part, nn.Linear):
            return part.out_features
    return int(trunk.num_features)


def known_pool(pool: object) -> AttentionPoolLatent:
    """An attention pool with one learned query and no positions.

    Raises:
        NoDenseFormError: There is none, or one of another kind.
    """
    if not isinstance(pool, AttentionPoolLatent) or pool.latent_len != 1:
        raise NoDenseFormError("this tower pools otherwise than by one query; use whole crops")
    if pool.pos_embed is not None:
        raise NoDenseFormError("this tower's pool has positions; use whole crops")
    return pool


def pool_values(
    pool: AttentionPoolLatent, tokens: Float[Tensor, "B N F"]
) -> Float[Tensor, "B N F"]:
    """What an attention pool makes of each token, had it seen no other.

    Source:
        As MaskCLIP (arXiv:2112.01071), sec. 3.2, has it for the attention pool of CLIP's ResNets;
        pools: SigLIP (arXiv:2303.15343), Perception Encoder (arXiv:2504.13181), sec. 2.
    """
    weight, bias = pool.kv.weight.chunk(2)[1], pool.kv.bias
    values = pool.proj(F.linear(tokens, weight, None if bias is None else bias.chunk(2)[1]))
    return values if pool.mlp is None else values + pool.mlp(pool.norm(values))
