"""open_clip's vision transformer taken apart: patches, blocks one by one, the last in any form.

Attention goes through PyTorch's fused kernel also without gradients, where
``nn.MultiheadAttention`` writes the whole matrix of scores down on a CPU: 0.8 GB per block of
ViT-B/16 at 1024 x 1024.
"""

import torch
from jaxtyping import Bool, Float
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from .dense import NoDenseFormError


def blocks_of(visual: VisionTransformer) -> list[ResidualAttentionBlock]:
    """The blocks of a tower whose vector of a whole image is its class token's.

    Raises:
        NoDenseFormError: The tower pools otherwise, or has blocks of another kind.
    """
    if visual.attn_pool is not None or visual.pool_type != "tok" or visual.final_ln_after_pool:
        raise NoDenseFormError(
            "this vision transformer has no class token to read the image from; use whole crops"
        )
    blocks = []
    for block in visual.transformer.resblocks:
        if not isinstance(block, ResidualAttentionBlock):
            raise NoDenseFormError(f"expected plain attention blocks, got {type(block).__name__}")
        blocks.append(block)
    return blocks


def embed_patches(visual: VisionTransformer, images: Float[Tensor, "B 3 H W"]) -> Tensor:
    """``(B, 1 + h * w, F)`` class token and patches, row by row, with positions.

    Patches are never left out, also in training: a map needs all.
    """
    patches = visual.conv1(images)
    grid_hw = (int(patches.shape[2]), int(patches.shape[3]))
    patches = patches.flatten(2).transpose(1, 2)
    class_token = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
    positions = resized_positions(visual.positional_embedding, visual.grid_size, grid_hw)
    return visual.ln_pre(torch.cat([class_token, patches], dim=1) + positions.to(patches.dtype))


def resized_positions(
    positions: Float[Tensor, "T F"], trained_hw: tuple[int, int], grid_hw: tuple[int, int]
) -> Float[Tensor, "N F"]:
    """Learned positions of another grid; the first row, the class token's, stays as it is.

    Args:
        positions: One row for the class token, then one per cell, row by row.
        trained_hw: The grid that they were learned for.
        grid_hw: The grid wanted.

    Source:
        CLIPSelf (arXiv:2310.01403), sec. 3.1; bicubic, half-pixel centres, no antialiasing.
    """
    return torch.cat([positions[:1], resized_cells(positions[1:], trained_hw, grid_hw)])


def resized_cells(
    positions: Float[Tensor, "T F"], trained_hw: tuple[int, int], grid_hw: tuple[int, int]
) -> Float[Tensor, "N F"]:
    """The same without a class token: one row per cell, row by row."""
    if trained_hw == grid_hw:
        return positions
    cells = positions.T.unflatten(1, trained_hw)[None]
    cells = F.interpolate(cells, grid_hw, mode="bicubic", align_corners=False)
    return cells[0].flatten(1).T


def run_block(
    block: ResidualAttentionBlock, tokens: Float[Tensor, "B N F"]
) -> Float[Tensor, "B N F"]:
    """A block as it was trained: every token attends to every token."""
    query, key, value = _project(block.attn, block.ln_1(tokens), 0, 3)
    return _after_mixing(block, tokens, _attend(block.attn, query, key, value))


def run_block_with_watchers(
    block: ResidualAttentionBlock,
    tokens: Float[Tensor, "B N F"],
    watchers: Float[Tensor, "B Q F"],
    watched: Bool[Tensor, "B Q N"],
) -> tuple[Float[Tensor, "B N F"], Float[Tensor, "B Q F"]]:
    """The same, with further tokens that attend to some tokens and that nobody attends to.

    Args:
        block: Any.
        tokens: Computed as by :func:`run_block`.
        watchers: One per mask.
        watched: What each of them sees, at least one token.
    """
    query, key, value = _project(block.attn, block.ln_1(tokens), 0, 3)
    asked = _project(block.attn, block.ln_1(watchers), 0, 1)[0]
    answers = _attend(block.attn, asked, key, value, watched[:, None])
    mixed = _attend(block.attn, query, key, value)
    return _after_mixing(block, tokens, mixed), _after_mixing(block, watchers, answers)


def value_only(
    block: ResidualAttentionBlock, tokens: Float[Tensor, "B N F"]
) -> Float[Tensor, "B N F"]:
    """A block in which every token attends to itself alone: its values, unmixed.

    The last block's mixing makes patches alike, since only the class token was ever read; without
    it each patch keeps what is its own, in a space that the projection knows. Residual and
    feed-forward part stay. Queries and keys are not computed.

    Source:
        MaskCLIP (arXiv:2112.01071), sec. 3.2; CLIPSelf (arXiv:2310.01403), sec. 3.1.
    """
    return _after_mixing(block, tokens, _project(block.attn, block.ln_1(tokens), 2, 3)[0])


def class_token_only(
    block: ResidualAttentionBlock, tokens: Float[Tensor, "B N F"]
) -> Float[Tensor, "B 1 F"]:
    """What :func:`run_block` makes of the first token, without the others' queries."""
    answer, _ = _class_answer(block, tokens)
    return _after_mixing(block, tokens[:, :1], answer)


def class_token_and_values(
    block: ResidualAttentionBlock, tokens: Float[Tensor, "B N F"]
) -> Float[Tensor, "B N F"]:
    """The first token as :func:`class_token_only` gives it, the others as :func:`value_only`."""
    first, value = _class_answer(block, tokens)
    return _after_mixing(block, tokens, torch.cat([first, value[:, 1:]], dim=1))


def _class_answer(block: ResidualAttentionBlock, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """``(B, 1, F)``, what the first token sees in all; and the values of all."""
    normed = block.ln_1(tokens)
    query = _project(block.attn, normed[:, :1], 0, 1)[0]
    key, value = _project(block.attn, normed, 1, 3)
    return _attend(block.attn, query, key, value), value


def _project(
    attention: nn.MultiheadAttention, tokens: Tensor, first: int, last: int
) -> tuple[Tensor, ...]:
    """Of queries (0), keys (1) and values (2), those from ``first`` up to before ``last``."""
    width, weight, bias = tokens.shape[-1], attention.in_proj_weight, attention.in_proj_bias
    rows = slice(first * width, last * width)
    projected = F.linear(tokens, weight[rows], None if bias is None else bias[rows])
    return projected.split(width, dim=-1)


def _attend(
    attention: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    seen: Tensor | None = None,
) -> Tensor:
    """Softmax attention of all heads, before the output projection."""
    heads = [
        each.unflatten(2, (attention.num_heads, -1)).transpose(1, 2) for each in (query, key, value)
    ]
    answer = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=seen)
    return answer.transpose(1, 2).flatten(2)


def _after_mixing(block: ResidualAttentionBlock, tokens: Tensor, mixed: Tensor) -> Tensor:
    """The rest of a block: output projection, residual, feed-forward part."""
    tokens = tokens + block.ls_1(block.attn.out_proj(mixed))
    return tokens + block.ls_2(block.mlp(block.ln_2(tokens)))
