"""Every dense form of timm's towers, on towers of a few thousand parameters."""

from typing import Any

import pytest
import torch
from PIL import Image
from timm.layers.attention_pool import AttentionPoolLatent
from timm.layers.pos_embed_sincos import RotaryEmbeddingCat
from timm.models.convnext import ConvNeXt
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from regionclip import load
from regionclip.encoders.crop_encoder import OpenClipEncoder
from regionclip.encoders.dense import DenseEncoder, DenseViT
from regionclip.encoders.dense_open_clip import dense_form_of
from regionclip.encoders.dense_timm import (
    DenseOpenClipEva,
    DensePerceptionEncoder,
    DenseSigLip,
    pool_values,
)
from regionclip.encoders.eva_blocks import grid_angles
from regionclip.regions.crops import CropRegions
from regionclip.regions.dense_regions import DenseRegions
from tests.tiny_timm import SIZES, TOWERS, dense_tower, wrapped


def images(height: int, width: int, *, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(2))


POOLED = [name for name, (_, form) in TOWERS.items() if form is not DenseOpenClipEva]
each_tower = pytest.mark.parametrize("name", TOWERS)


@each_tower
def test_each_tower_is_known_by_its_modules(name: str) -> None:
    dense = dense_tower(name)
    assert type(dense) is TOWERS[name][1]
    assert isinstance(dense, DenseEncoder)
    assert isinstance(dense, DenseViT) == (TOWERS[name][1] is DenseOpenClipEva)
    assert len(dense.state_dict()) == len(dense.model.state_dict())  # type: ignore[attr-defined]


@each_tower
def test_maps_of_any_size_have_vectors_of_length_one(name: str) -> None:
    dense = dense_tower(name)
    for rows, columns in ((1, 1), (4, 4), (2, 5)):
        batch = images(rows * dense.cell, columns * dense.cell)
        found, whole = dense.dense_and_whole(batch)
        assert found.shape == (2, dense.embed_dim, rows, columns)
        torch.testing.assert_close(found.norm(dim=1), torch.ones(2, rows, columns))
        torch.testing.assert_close(dense.dense_features(batch), found)
        torch.testing.assert_close(dense.encode_image(batch), whole)
    assert dense.dense_features(images(dense.cell, dense.cell)[:0]).shape[0] == 0


@each_tower
def test_whole_images_of_the_trained_size_are_open_clips(name: str) -> None:
    dense = dense_tower(name)
    batch = images(32, 32)
    expected = dense.model.visual(batch)  # type: ignore[attr-defined]
    torch.testing.assert_close(dense.encode_image(batch), expected)


def test_whole_images_may_have_the_trained_size_where_patches_do_not_fill_it() -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = SIZES | {"img_size": 35}
    trunk = VisionTransformer(num_classes=0, class_token=False, global_pool="map", **sizes)
    dense = dense_form_of(wrapped(trunk, nn.Sequential(), size=35))
    assert isinstance(dense, DenseSigLip)
    batch = images(35, 35)
    torch.testing.assert_close(
        dense.encode_image(batch), dense.model.get_submodule("visual")(batch)
    )
    with pytest.raises(ValueError, match="35 x 43 pixels do not divide into cells of 8"):
        dense.encode_image(images(35, 43))
    with pytest.raises(ValueError, match="35 x 35 pixels do not divide into cells of 8"):
        dense.dense_features(batch)


@each_tower
def test_maps_are_differentiable(name: str) -> None:
    dense = dense_tower(name)
    batch = images(dense.cell, 2 * dense.cell).requires_grad_()
    dense.dense_features(batch)[:, 0].sum().backward()
    assert batch.grad is not None
    assert batch.grad.abs().sum() > 0


@each_tower
def test_images_divide_into_cells(name: str) -> None:
    dense = dense_tower(name)
    for call in (dense.dense_features, dense.encode_image, dense.dense_and_whole):
        with pytest.raises(ValueError, match=f"do not divide into cells of {dense.cell}; pad"):
            call(images(dense.cell + 1, dense.cell))


@pytest.mark.parametrize("name", ["convnext", "siglip", "pe without class token"])
def test_a_place_that_is_alone_has_the_vector_of_the_image(name: str) -> None:
    dense = dense_tower(name)
    found, whole = dense.dense_and_whole(images(dense.cell, dense.cell))
    torch.testing.assert_close(found[..., 0, 0], F.normalize(whole))


@pytest.mark.parametrize("name", ["siglip", "pe without class token"])
def test_places_that_are_alike_have_the_vector_of_the_image(name: str) -> None:
    dense = dense_tower(name)
    trunk = dense.visual.trunk  # type: ignore[attr-defined]
    nn.init.zeros_(trunk.get_parameter("pos_embed"))
    grey = torch.full((1, 3, 16, 40), 0.7)
    found, whole = dense.dense_and_whole(grey)
    expected = F.normalize(whole)[:, :, None, None].expand_as(found)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_values_of_a_pool_that_asks_nothing_have_its_answer_as_their_mean() -> None:
    torch.manual_seed(0)
    pool = AttentionPoolLatent(16, num_heads=2, norm_layer=nn.LayerNorm).requires_grad_(False)
    tokens = torch.randn(2, 7, 16)
    torch.testing.assert_close(pool_values(pool, tokens[:, :1])[:, 0], pool(tokens[:, :1]))
    nn.init.zeros_(pool.get_parameter("latent"))
    nn.init.zeros_(pool.get_parameter("q.bias"))
    pool.mlp = None
    torch.testing.assert_close(pool_values(pool, tokens).mean(dim=1), pool(tokens))


def test_in_the_last_block_of_eva_no_patch_sees_another() -> None:
    dense = dense_tower("eva enormous")
    assert isinstance(dense, DenseOpenClipEva)
    del dense.trunk.blocks[0]
    dense.num_blocks = 1
    batch = images(16, 24)
    changed = batch.clone()
    changed[:, :, 8:, 16:] += 1
    before, after = dense.dense_features(batch), dense.dense_features(changed)
    differs = (before != after).any(dim=1)
    assert differs[:, 1, 2].all()
    assert differs.sum() == 2


def test_angles_follow_the_grid_and_not_what_the_trunk_was_built_for() -> None:
    dense = dense_tower("pe")
    assert isinstance(dense, DensePerceptionEncoder)
    rope = dense.visual.trunk.rope
    assert isinstance(rope, RotaryEmbeddingCat)
    torch.testing.assert_close(grid_angles(rope, (4, 4)), rope.get_embed())
    assert grid_angles(rope, (2, 5)).shape == (10, 16)


def test_towers_without_a_sound_form_have_none() -> None:
    mean = VisionTransformer(num_classes=0, class_token=False, global_pool="avg", **SIZES)
    assert dense_form_of(wrapped(mean, nn.Sequential())) is None
    registers = Eva(num_classes=10, global_pool="token", num_reg_tokens=2, **SIZES)
    assert dense_form_of(wrapped(registers, nn.Sequential())) is None
    largest = ConvNeXt(num_classes=0, depths=(1, 1, 1, 1), dims=(4, 4, 8, 8), global_pool="max")
    assert dense_form_of(wrapped(largest, nn.Sequential())) is None


@pytest.mark.parametrize("name", ["siglip", "convnext", "eva giant"])
def test_open_clips_names_give_regions_from_the_dense_map(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenClipEncoder, "create", lambda *_: wrapped(*TOWERS[name][0]()))
    model = load("nowhere:tiny")
    boxes = torch.tensor([[0.0, 0.0, 20.0, 10.0], [3.0, 2.0, 9.0, 8.0]])
    picture = Image.effect_noise((20, 10), 80).convert("RGB")
    assert isinstance(model.parts.regions, DenseRegions)
    assert model.encode_regions(picture, boxes).shape == (2, dense_tower(name).embed_dim)
    whole = load("nowhere:tiny", regions="crops")
    assert isinstance(whole.parts.regions, CropRegions)
