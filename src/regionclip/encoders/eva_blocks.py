"""timm's EVA transformer taken apart: patches, positions, blocks one by one, the last in any form.

EVA-CLIP's towers and the Perception Encoder's are such transformers. timm's own way through them
resizes positions with antialiasing and rotates by angles of one fixed grid; here any grid will do.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from timm.layers.pos_embed_sincos import RotaryEmbeddingCat, apply_rot_embed_cat
from timm.models.eva import Eva, EvaBlock, EvaBlockPostNorm
from torch import Tensor, nn
from torch.nn import functional as F

from .dense import NoDenseFormError
from .vit_blocks import resized_cells, resized_positions

AnyBlock = EvaBlock | EvaBlockPostNorm


@dataclass(frozen=True, slots=True)
class EvaTokens:
    """What goes from block to block.

    Attributes:
        tokens: The class token, if there is one, then patches row by row.
        angles: Sine and cosine of every patch's rotation; ``None`` without rotation.
        num_prefix: Tokens before the patches, which are not rotated: 0 or 1.
    """

    tokens: Float[Tensor, "B N F"]
    angles: Float[Tensor, "P A"] | None
    num_prefix: int

    @property
    def patches(self) -> Float[Tensor, "B P F"]:
        """Without the class token."""
        return self.tokens[:, self.num_prefix :]


def blocks_of(trunk: Eva) -> list[AnyBlock]:
    """The blocks of a trunk.

    Raises:
        NoDenseFormError: The trunk has further tokens, angles that differ between blocks, or
            blocks of another kind.
    """
    if trunk.reg_token is not None or trunk.rope_mixed or trunk.no_embed_class:
        raise NoDenseFormError("this transformer has no known dense form; use whole crops")
    blocks = [block for block in trunk.blocks if isinstance(block, AnyBlock)]
    if len(blocks) < len(trunk.blocks):
        raise NoDenseFormError("this transformer has blocks of an unknown kind; use whole crops")
    return blocks


def embed_patches(trunk: Eva, images: Float[Tensor, "B 3 H W"]) -> EvaTokens:
    """Patches with learned positions and, beside them, the angles of their grid.

    Angles are computed at each call: as many grids as there are images may pass through one model.

    Source:
        EVA-02 (arXiv:2303.11331), sec. 2.1; CLIPSelf (arXiv:2310.01403), sec. 3.1.
    """
    patches = trunk.patch_embed.proj(images)
    grid_hw = (int(patches.shape[2]), int(patches.shape[3]))
    tokens = trunk.patch_embed.norm(patches.flatten(2).transpose(1, 2))
    if trunk.cls_token is not None:
        tokens = torch.cat([trunk.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
    if trunk.pos_embed is not None:
        tokens = tokens + _positions(trunk, grid_hw).to(tokens.dtype)
    angles = None if trunk.rope is None else grid_angles(trunk.rope, grid_hw)
    return EvaTokens(trunk.norm_pre(tokens), angles, trunk.num_prefix_tokens)


def _positions(trunk: Eva, grid_hw: tuple[int, int]) -> Tensor:
    trained_hw = (int(trunk.patch_embed.grid_size[0]), int(trunk.patch_embed.grid_size[1]))
    positions = trunk.get_parameter("pos_embed")[0]
    if trunk.cls_token is None:
        return resized_cells(positions, trained_hw, grid_hw)
    return resized_positions(positions, trained_hw, grid_hw)


def grid_angles(rope: nn.Module, grid_hw: tuple[int, int]) -> Float[Tensor, "P A"]:
    """Sine and cosine of the rotation of every cell of a grid, row by row.

    Cells of any grid are spread over the span of the grid that the angles were chosen for, each
    axis by itself: cell ``i`` of ``n`` turns by ``i / n * 16`` times the frequency in EVA-02.

    Args:
        rope: timm's module.
        grid_hw: Rows and columns.

    Raises:
        TypeError: The angles are of another kind.

    Source:
        EVA-02 (arXiv:2303.11331), sec. 2.1.
    """
    if not isinstance(rope, RotaryEmbeddingCat):
        raise TypeError(f"angles of {type(rope).__name__} are not known for other grids")
    # a second module, since the trunk's own may be bound to the grid that it was built for
    anew = RotaryEmbeddingCat(
        dim=rope.dim,
        max_res=rope.max_res,
        temperature=rope.temperature,
        in_pixels=rope.in_pixels,
        linear_bands=rope.linear_bands,
        ref_feat_shape=rope.ref_feat_shape,
        grid_offset=rope.grid_offset,
        grid_indexing=rope.grid_indexing,
        rotate_half=rope.rotate_half,
    )
    return anew.get_embed(list(grid_hw)).to(rope.get_buffer("bands").device)


def run_block(block: AnyBlock, state: EvaTokens) -> EvaTokens:
    """A block as it was trained: every token attends to every token."""
    mixed, _ = _answers(block, state, asking=state.tokens.shape[1])
    tokens = _after_mixing(block, state.tokens, mixed)
    return EvaTokens(tokens, state.angles, state.num_prefix)


def value_only(block: AnyBlock, tokens: Float[Tensor, "B N F"]) -> Float[Tensor, "B N F"]:
    """A block in which every token attends to itself alone; see :func:`.vit_blocks.value_only`.

    Source:
        MaskCLIP (arXiv:2112.01071), sec. 3.2; CLIPSelf (arXiv:2310.01403), sec. 3.1.
    """
    return _after_mixing(block, tokens, _projected(block.attn, _normed(block, tokens), "v"))


def class_token_only(block: AnyBlock, state: EvaTokens) -> Float[Tensor, "B 1 F"]:
    """What :func:`run_block` makes of the class token, without the patches' queries."""
    answer, _ = _answers(block, state, asking=1)
    return _after_mixing(block, state.tokens[:, :1], answer)


def class_token_and_values(block: AnyBlock, state: EvaTokens) -> Float[Tensor, "B N F"]:
    """The class token as :func:`class_token_only` gives it, the others as :func:`value_only`."""
    first, value = _answers(block, state, asking=1)
    return _after_mixing(block, state.tokens, torch.cat([first, value[:, 1:]], dim=1))


def _normed(block: AnyBlock, tokens: Tensor) -> Tensor:
    return tokens if isinstance(block, EvaBlockPostNorm) else block.norm1(tokens)


def _projected(attention: Any, tokens: Tensor, which: str) -> Tensor:
    """Queries (``q``), keys (``k``) or values (``v``), of one projection or one of three."""
    if attention.qkv is None:
        return attention.get_submodule(f"{which}_proj")(tokens)
    number = "qkv".index(which)
    weight = attention.qkv.weight.chunk(3)[number]
    if attention.qkv.bias is not None:
        return F.linear(tokens, weight, attention.qkv.bias.chunk(3)[number])
    # EVA's keys have no bias
    return F.linear(tokens, weight, getattr(attention, f"{which}_bias", None))


def _answers(block: AnyBlock, state: EvaTokens, *, asking: int) -> tuple[Tensor, Tensor]:
    """``(B, asking, F)``, what the first tokens see in all; and the values of all."""
    attention: Any = block.attn
    normed = _normed(block, state.tokens)
    values = _projected(attention, normed, "v")
    query = _projected(attention, normed[:, :asking], "q")
    key = _projected(attention, normed, "k")
    query, key, value = (
        each.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
        for each in (query, key, values)
    )
    query = _rotated(attention, attention.q_norm(query), state)
    key = _rotated(attention, attention.k_norm(key), state)
    answer = F.scaled_dot_product_attention(query, key, value)
    return answer.transpose(1, 2).flatten(2), values


def _rotated(attention: Any, heads: Tensor, state: EvaTokens) -> Tensor:
    """Turn patches by their angles; what is before them stays."""
    first, patches = heads.split([state.num_prefix, heads.shape[2] - state.num_prefix], dim=2)
    if state.angles is None or patches.shape[2] == 0:
        return heads
    patches = apply_rot_embed_cat(patches, state.angles, half=attention.rotate_half)
    return torch.cat([first, patches.type_as(first)], dim=2)


def _after_mixing(block: AnyBlock, tokens: Tensor, mixed: Tensor) -> Tensor:
    """The rest of a block: inner norm, output projection, residual, feed-forward part."""
    mixed = block.attn.proj(block.attn.norm(mixed))
    if isinstance(block, EvaBlockPostNorm):
        tokens = tokens + block.norm1(mixed)
        return tokens + block.norm2(block.mlp(tokens))
    tokens = tokens + (mixed if block.gamma_1 is None else block.gamma_1 * mixed)
    changed = block.mlp(block.norm2(tokens))
    return tokens + (changed if block.gamma_2 is None else block.gamma_2 * changed)
