"""Every dense form of timm's towers, on towers of a few thousand parameters."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, set_model_preprocess_cfg
from open_clip.timm_model import TimmModel
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
    DenseConvNext,
    DenseOpenClipEva,
    DensePerceptionEncoder,
    DenseSigLip,
    pool_values,
)
from regionclip.encoders.eva_blocks import grid_angles
from regionclip.encoders.tokenizer import clip_tokenizer
from regionclip.regions.crops import CropRegions
from regionclip.regions.dense_regions import DenseRegions

SIZES: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 2,
}


def convnext() -> tuple[nn.Module, nn.Module]:
    trunk = ConvNeXt(num_classes=0, depths=(1, 1, 1, 1), dims=(4, 4, 8, 8), ls_init_value=None)
    return trunk, nn.Sequential(nn.Dropout(0.0), nn.Linear(8, 10, bias=False))


def siglip() -> tuple[nn.Module, nn.Module]:
    trunk = VisionTransformer(num_classes=0, class_token=False, global_pool="map", **SIZES)
    return trunk, nn.Sequential()


def perception(*, class_token: bool) -> tuple[nn.Module, nn.Module]:
    trunk = Eva(
        num_classes=10,
        global_pool="map",
        attn_type="rope",
        class_token=class_token,
        use_pre_transformer_norm=True,
        use_rot_pos_emb=True,
        ref_feat_shape=(4, 4),
        rope_grid_offset=1.0,
        rope_grid_indexing="xy",
        attn_pool_num_heads=2,
        attn_pool_mlp_ratio=2.0,
        **SIZES,
    )
    return trunk, nn.Sequential()


def eva(*, rotated: bool, post_norm: bool) -> tuple[nn.Module, nn.Module]:
    """EVA-CLIP's giant (nothing new), its enormous one (norms after, rotation)."""
    trunk = Eva(
        num_classes=10,
        global_pool="token",
        use_rot_pos_emb=rotated,
        use_post_norm=post_norm,
        init_values=None if post_norm else 0.5,
        **SIZES,
    )
    return trunk, nn.Sequential()


TOWERS: dict[str, tuple[Callable[[], tuple[nn.Module, nn.Module]], type]] = {
    "convnext": (convnext, DenseConvNext),
    "siglip": (siglip, DenseSigLip),
    "pe": (partial(perception, class_token=True), DensePerceptionEncoder),
    "pe without class token": (partial(perception, class_token=False), DensePerceptionEncoder),
    "eva giant": (partial(eva, rotated=False, post_norm=False), DenseOpenClipEva),
    "eva enormous": (partial(eva, rotated=True, post_norm=True), DenseOpenClipEva),
}
POOLED = [name for name, (_, form) in TOWERS.items() if form is not DenseOpenClipEva]


def wrapped(trunk: nn.Module, head: nn.Module, *, size: int = 32) -> OpenClipEncoder:
    visual = TimmModel.__new__(TimmModel)
    nn.Module.__init__(visual)
    visual.register_module("trunk", trunk)
    visual.register_module("head", head)
    model = CLIP(
        embed_dim=10,
        vision_cfg=CLIPVisionCfg(layers=0, patch_size=32, image_size=32),
        text_cfg=CLIPTextCfg(context_length=16, vocab_size=600, width=16, heads=2, layers=1),
    )
    model.register_module("visual", visual)
    generator = torch.Generator().manual_seed(5)
    for parameter in visual.parameters():
        scale = parameter.shape[1:].numel() ** -0.5 if parameter.ndim > 1 else 0.3
        parameter.data = torch.randn(parameter.shape, generator=generator) * scale
    statistics = {"size": (size, size), "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    set_model_preprocess_cfg(model, statistics)
    model.eval().requires_grad_(False)
    return OpenClipEncoder(
        model, name="tiny", tokenize=clip_tokenizer(num_merges=86, context_length=16)
    )


def dense_tower(name: str) -> DenseEncoder:
    torch.manual_seed(0)
    dense = dense_form_of(wrapped(*TOWERS[name][0]()))
    assert dense is not None
    return dense


def images(height: int, width: int, *, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(2))


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
