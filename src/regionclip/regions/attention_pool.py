"""CLIP's attention pool with the only query whose answer is used."""

import torch
from jaxtyping import Bool, Float
from open_clip.modified_resnet import AttentionPool2d
from torch import Tensor
from torch.nn import functional as F


def attention_pool(
    cells: Float[Tensor, "R F h w"],
    pool: AttentionPool2d,
    *,
    inside: Bool[Tensor, "R h w"] | None = None,
) -> Float[Tensor, "R D"]:
    """Pool a grid of cells to one vector each.

    The pool's output is its first token, the mean of the cells, so only that token asks. Its
    query is folded through the key projection and the value projection is applied once to the
    weighted mean of the tokens: keys and values are never made per token, and the key bias, which
    adds one number to all scores, drops out. Equal to the full attention up to rounding.

    Args:
        cells: Output of layer4; ``h * w + 1`` must be the pool's number of positions.
        pool: open_clip's module, for its parameters.
        inside: Cells that belong to the region, at least one per row; the others neither enter
            the mean nor are attended to. By default all do.

    Raises:
        ValueError: The grid is not the one that the positions were learned for.

    Source:
        CLIP (arXiv:2103.00020), sec. 2.4; openai/CLIP ``clip/model.py:AttentionPool2d``.
    """
    dtype = cells.dtype
    if cells.shape[2] * cells.shape[3] + 1 != len(pool.positional_embedding):
        raise ValueError(
            f"the attention pool takes {len(pool.positional_embedding) - 1} cells, got "
            f"{cells.shape[2]} x {cells.shape[3]}; pool regions to the encoder's own grid"
        )
    tokens = cells.flatten(2).transpose(1, 2)
    tokens = torch.cat([_mean_token(tokens, inside), tokens], dim=1)
    tokens += pool.positional_embedding.to(dtype)
    heads = pool.num_heads
    query = F.linear(tokens[:, 0], pool.q_proj.weight.to(dtype), pool.q_proj.bias.to(dtype))
    query = query.unflatten(1, (heads, -1)) * (query.shape[1] // heads) ** -0.5
    keys = pool.k_proj.weight.to(dtype).unflatten(0, (heads, -1))
    scores = torch.einsum("rnd,ndf->rnf", query, keys) @ tokens.transpose(1, 2)
    if inside is not None:
        cell_scores = scores[:, :, 1:].masked_fill(~inside.flatten(1)[:, None], -torch.inf)
        scores = torch.cat([scores[:, :, :1], cell_scores], dim=2)
    answer = scores.float().softmax(dim=-1).to(dtype) @ tokens
    values = pool.v_proj.weight.to(dtype).unflatten(0, (heads, -1))
    answer = torch.einsum("rnf,ndf->rnd", answer, values).flatten(1) + pool.v_proj.bias.to(dtype)
    return F.linear(answer, pool.c_proj.weight.to(dtype), pool.c_proj.bias.to(dtype))


def _mean_token(tokens: Tensor, inside: Tensor | None) -> Tensor:
    if inside is None:
        return tokens.mean(dim=1, keepdim=True)
    share = inside.flatten(1)[:, :, None].to(tokens.dtype)
    return (tokens * share).sum(dim=1, keepdim=True) / share.sum(dim=1, keepdim=True).clamp(min=1)
