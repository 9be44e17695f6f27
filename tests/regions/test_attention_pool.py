import pytest
import torch
from open_clip.modified_resnet import AttentionPool2d
from torch.nn import functional as F

from regionclip.regions.attention_pool import attention_pool

CHANNELS = 32


def random_pool(grid: int = 3) -> AttentionPool2d:
    torch.manual_seed(0)
    pool = AttentionPool2d(grid, embed_dim=CHANNELS, num_heads=4, output_dim=10)
    pool.positional_embedding.data.normal_(0, 0.5)
    return pool.eval().requires_grad_(False)


def random_cells(num_regions: int, grid: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(num_regions, CHANNELS, grid, grid, generator=generator)


@pytest.mark.parametrize("grid", [1, 3, 7])
def test_attention_pool_equals_open_clip(grid: int) -> None:
    pool, cells = random_pool(grid), random_cells(5, grid)
    torch.testing.assert_close(attention_pool(cells, pool), pool(cells), rtol=1e-5, atol=1e-6)


def test_the_key_bias_changes_nothing() -> None:
    pool, cells = random_pool(), random_cells(2)
    before = attention_pool(cells, pool)
    pool.k_proj.bias.data.normal_(0, 10)
    torch.testing.assert_close(pool(cells), before, rtol=1e-4, atol=1e-5)


def test_cells_outside_the_mask_have_no_influence() -> None:
    pool, cells = random_pool(), random_cells(2)
    inside = torch.zeros(2, 3, 3, dtype=torch.bool)
    inside[:, :2, 1:] = True
    changed = torch.where(inside[:, None], cells, torch.full_like(cells, 50.0))
    torch.testing.assert_close(
        attention_pool(changed, pool, inside=inside), attention_pool(cells, pool, inside=inside)
    )
    assert not torch.allclose(attention_pool(changed, pool), attention_pool(cells, pool))


def test_a_mask_of_all_cells_is_no_mask() -> None:
    pool, cells = random_pool(), random_cells(2)
    inside = torch.ones(2, 3, 3, dtype=torch.bool)
    torch.testing.assert_close(
        attention_pool(cells, pool, inside=inside), attention_pool(cells, pool)
    )


def test_a_mask_equals_attention_over_the_inner_tokens_alone() -> None:
    pool, cells = random_pool(), random_cells(1)
    inside = torch.tensor([[[True, False, False], [False, True, False], [True, False, False]]])
    tokens = cells.flatten(2)[0].T[inside.flatten()]
    positions = pool.positional_embedding
    tokens = torch.cat(
        [tokens.mean(dim=0, keepdim=True) + positions[:1], tokens + positions[1:][inside.flatten()]]
    )
    query, keys = pool.q_proj(tokens[:1]), pool.k_proj(tokens)
    query, keys, values = (
        each.unflatten(1, (4, -1)).transpose(0, 1) for each in (query, keys, pool.v_proj(tokens))
    )
    answer = F.scaled_dot_product_attention(query, keys, values).transpose(0, 1).flatten(1)
    torch.testing.assert_close(
        attention_pool(cells, pool, inside=inside), pool.c_proj(answer), rtol=1e-5, atol=1e-6
    )


def test_zero_regions_give_zero_rows() -> None:
    assert attention_pool(random_cells(0), random_pool()).shape == (0, 10)


def test_another_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="takes 9 cells, got 2 x 2"):
        attention_pool(random_cells(1, grid=2), random_pool(grid=3))
