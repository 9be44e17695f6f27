import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from regionclip.encoders.dense import DenseViT
from regionclip.encoders.eva import EVA_SPECS, EvaClip
from regionclip.encoders.eva_blocks import grid_angles
from tests.tiny_eva import TINY_EVA, tiny_eva


@pytest.fixture(scope="module")
def encoder() -> EvaClip:
    return tiny_eva()


def images(height: int, width: int, *, batch: int = 2, seed: int = 1) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_it_is_a_dense_vit() -> None:
    assert isinstance(tiny_eva(), DenseViT)


def test_whole_images_are_seen_as_timm_sees_them(encoder: EvaClip) -> None:
    batch = images(32, 32)
    torch.testing.assert_close(encoder.encode_image(batch), encoder.trunk(batch))


@pytest.mark.parametrize("size", [(32, 32), (16, 48), (8, 8), (40, 24)])
def test_a_map_has_a_vector_of_length_one_per_patch(
    encoder: EvaClip, size: tuple[int, int]
) -> None:
    batch = images(*size)
    dense, whole = encoder.dense_and_whole(batch)
    assert dense.shape == (2, 10, size[0] // 8, size[1] // 8)
    torch.testing.assert_close(dense.norm(dim=1), torch.ones(2, size[0] // 8, size[1] // 8))
    torch.testing.assert_close(dense, encoder.dense_features(batch))
    torch.testing.assert_close(whole, encoder.encode_image(batch))


def test_a_batch_is_its_images(encoder: EvaClip) -> None:
    batch = images(16, 40, batch=3)
    apart = torch.cat([encoder.dense_features(each[None]) for each in batch])
    torch.testing.assert_close(encoder.dense_features(batch), apart)


def test_no_images_give_no_maps(encoder: EvaClip) -> None:
    assert encoder.dense_features(torch.zeros(0, 3, 16, 32)).shape == (0, 10, 2, 4)


def test_twenty_sizes_pass_through_one_model_and_none_changes_another(encoder: EvaClip) -> None:
    sizes = [(8 * rows, 8 * columns) for rows, columns in product((1, 2, 3, 5, 7), (2, 3, 4, 6))]
    assert len(set(sizes)) == 20
    before = encoder.dense_features(images(24, 40))
    for height, width in sizes:
        dense = encoder.dense_features(images(height, width, batch=1))
        fresh = tiny_eva().dense_features(images(height, width, batch=1))
        assert dense.shape[2:] == (height // 8, width // 8)
        assert torch.equal(dense, fresh)
    assert torch.equal(encoder.dense_features(images(24, 40)), before)


def test_cells_of_any_grid_span_the_same_angles(encoder: EvaClip) -> None:
    # heads of 8 channels: per axis 2 frequencies, 1 and 1/100
    rope = encoder.trunk.rope
    assert rope is not None
    angles = grid_angles(rope, (2, 4))
    sine, cosine = angles.chunk(2, dim=1)
    assert sine.shape == (8, 8)
    row, column = 1, 3
    turned = [row / 2 * 16, row / 2 * 16 / 100, column / 4 * 16, column / 4 * 16 / 100]
    expected = torch.tensor([each for each in turned for _ in range(2)])
    torch.testing.assert_close(sine[row * 4 + column], expected.sin())
    torch.testing.assert_close(cosine[row * 4 + column], expected.cos())


def test_rows_and_columns_are_told_apart(encoder: EvaClip) -> None:
    batch = images(16, 48)
    turned = encoder.dense_features(batch.transpose(2, 3))
    assert not torch.allclose(turned.transpose(2, 3), encoder.dense_features(batch), atol=1e-2)


def by_hand(encoder: EvaClip, batch: Tensor) -> Tensor:
    """The same in the words of the papers, without any of timm's modules, on its own grid."""
    state = encoder.trunk.state_dict()
    heads, width = 2, 16

    def linear(name: str, tokens: Tensor) -> Tensor:
        return F.linear(tokens, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def norm(name: str, tokens: Tensor) -> Tensor:
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return F.layer_norm(tokens, tokens.shape[-1:], weight, bias, eps=1e-6)

    grid = batch.shape[-1] // 8
    patches = batch.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).flatten(3)
    weight = state["patch_embed.proj.weight"].flatten(1)
    tokens = (patches @ weight.T + state["patch_embed.proj.bias"]).flatten(1, 2)
    class_token = state["cls_token"].expand(len(batch), -1, -1)
    tokens = torch.cat([class_token, tokens], dim=1) + state["pos_embed"]

    def rotated(tokens: Tensor) -> Tensor:
        pairs = torch.view_as_complex(tokens.unflatten(-1, (-1, 2)).contiguous())
        places = torch.arange(grid) / grid * 16
        rates = torch.tensor([1.0, 1 / 100])
        rows = (places[:, None] * rates)[:, None].expand(-1, grid, -1)
        columns = (places[:, None] * rates)[None].expand(grid, -1, -1)
        turns = torch.polar(torch.ones(1), torch.cat([rows, columns], dim=-1).flatten(0, 1))
        turns = torch.cat([torch.ones(1, 4, dtype=turns.dtype), turns])
        return torch.view_as_real(pairs * turns).flatten(-2)

    for number in range(3):
        block = f"blocks.{number}"
        normed = norm(f"{block}.norm1", tokens)
        query, key, value = (
            linear(f"{block}.attn.{each}_proj", normed).unflatten(-1, (heads, -1)).transpose(1, 2)
            for each in "qkv"
        )
        scores = rotated(query) @ rotated(key).transpose(2, 3) / math.sqrt(width / heads)
        mixed = value if number == 2 else scores.softmax(dim=-1) @ value
        mixed = norm(f"{block}.attn.norm", mixed.transpose(1, 2).flatten(2))
        tokens = tokens + linear(f"{block}.attn.proj", mixed)
        normed = norm(f"{block}.norm2", tokens)
        gated = F.silu(linear(f"{block}.mlp.fc1_g", normed)) * linear(f"{block}.mlp.fc1_x", normed)
        tokens = tokens + linear(f"{block}.mlp.fc2", norm(f"{block}.mlp.norm", gated))
    vectors = linear("head", norm("norm", tokens[:, 1:]))
    return F.normalize(vectors, dim=2).transpose(1, 2).unflatten(2, (grid, grid))


def test_the_map_is_what_the_papers_say(encoder: EvaClip) -> None:
    batch = images(32, 32)
    torch.testing.assert_close(
        encoder.dense_features(batch), by_hand(encoder, batch), rtol=1e-4, atol=1e-5
    )


def test_in_the_last_block_no_patch_sees_another() -> None:
    shallow = tiny_eva(spec=replace(TINY_EVA, layers=1))
    batch = images(16, 24)
    changed = batch.clone()
    changed[:, :, :8, 8:16] += 1
    before, after = shallow.dense_features(batch), shallow.dense_features(changed)
    differs = (before != after).any(dim=1)
    assert differs[:, 0, 1].all()
    assert differs.sum() == 2
    assert (shallow.plain_features(batch) != shallow.plain_features(changed)).any(dim=1).all()


def test_maps_of_blocks_lead_to_the_dense_map(encoder: EvaClip) -> None:
    batch = images(16, 24)
    (first, last), dense = encoder.token_maps(batch, (0, 2))
    assert first.shape == last.shape == (2, 16, 2, 3)
    joint = encoder.trunk.head(encoder.trunk.norm(last.permute(0, 2, 3, 1)))
    torch.testing.assert_close(F.normalize(joint, dim=3).permute(0, 3, 1, 2), dense)
    assert not torch.allclose(first, last)
    (alone,), _ = encoder.token_maps(batch, (0,))
    assert torch.equal(alone, first)


@pytest.mark.parametrize("blocks", [(3,), (1, 0), (-1,), (0, 0)])
def test_blocks_are_increasing_and_the_towers(encoder: EvaClip, blocks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"blocks must be increasing numbers below 3, got \["):
        encoder.token_maps(images(16, 16), blocks)


@pytest.mark.parametrize("size", [(30, 32), (32, 30), (0, 8), (4, 8)])
def test_images_divide_into_cells(encoder: EvaClip, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"do not divide into cells of 8; pad them"):
        encoder.dense_features(torch.zeros(1, 3, *size))


def test_gradients_reach_all_but_what_asks_in_the_last_block() -> None:
    encoder = tiny_eva().requires_grad_(True)
    encoder.dense_features(images(16, 24)).square().mean(dim=(0, 2, 3)).diff().sum().backward()
    silent = {name for name, own in encoder.trunk.named_parameters() if own.grad is None}
    last = "blocks.2.attn"
    assert silent == {f"{last}.q_proj.weight", f"{last}.q_proj.bias", f"{last}.k_proj.weight"}


def test_the_base_size_has_as_many_parameters_as_the_released_file() -> None:
    with torch.device("meta"):
        base = EvaClip(EVA_SPECS["EVA02-B-16"])
    assert sum(each.numel() for each in base.parameters()) == 149_691_137


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 30}, "image_size must be a multiple of patch_size = 8, got 30"),
        ({"width": 20}, "width must be a multiple of head_width = 8, got 20"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY_EVA, **change)
