from dataclasses import replace

import open_clip
import pytest
import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional as F

from regionclip.encoders.crop_encoder import OpenClipEncoder
from regionclip.encoders.dense import DenseEncoder, DenseViT, usual_longest_side
from regionclip.encoders.dense_open_clip import dense_form_of
from regionclip.encoders.vit import VIT_SPECS, ClipVit
from regionclip.encoders.vit_blocks import blocks_of, resized_positions
from tests.tiny_clip import tiny_vit
from tests.tiny_dense import TINY_VIT, tiny_dense


def picture(height: int, width: int, *, seed: int = 0, batch: int = 1) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def vit() -> ClipVit:
    encoder = tiny_dense(replace(TINY_VIT, layers=3)).requires_grad_(False)
    # positions and scales that make a difference
    torch.nn.init.normal_(encoder.visual.positional_embedding, std=0.5)
    return encoder


def test_it_is_a_dense_tower_of_blocks(vit: ClipVit) -> None:
    assert isinstance(vit, DenseEncoder)
    assert isinstance(vit, DenseViT)
    assert (vit.cell, vit.width, vit.num_blocks, vit.embed_dim) == (8, 16, 3, 10)


def test_specs_are_open_clips_architectures() -> None:
    for name, spec in VIT_SPECS.items():
        config = open_clip.get_model_config(name)
        assert config is not None
        vision, text = config["vision_cfg"], config["text_cfg"]
        assert spec.embed_dim == config["embed_dim"]
        assert (spec.image_size, spec.layers) == (vision["image_size"], vision["layers"])
        assert (spec.width, spec.patch_size) == (vision["width"], vision["patch_size"])
        assert (spec.text_width, spec.text_heads) == (text["width"], text["heads"])
        assert (spec.text_layers, spec.context_length) == (text["layers"], text["context_length"])
        assert spec.vocab_size == text["vocab_size"]


def test_whole_images_and_texts_are_open_clips(vit: ClipVit) -> None:
    images = picture(32, 32, batch=2)
    torch.testing.assert_close(vit.encode_image(images), vit.visual(images))
    tokens = vit.tokenize(["a cat", "x"])
    torch.testing.assert_close(vit.encode_tokens(tokens), vit.clip.encode_text(tokens))


def written_out(visual: VisionTransformer, images: Tensor) -> Tensor:
    """The value-only form with open_clip's own modules: attention to oneself by a mask."""
    *first, last = blocks_of(visual)
    tokens = visual._embeds(images)
    for block in first:
        tokens = block(tokens)
    alone = torch.full((tokens.shape[1],) * 2, -torch.inf).fill_diagonal_(0)
    tokens = last(tokens, attn_mask=alone)
    return F.normalize(visual.ln_post(tokens[:, 1:]) @ visual.proj, dim=2)


def test_in_the_last_block_every_patch_sees_itself_alone(vit: ClipVit) -> None:
    images = picture(32, 32, batch=2)
    expected = written_out(vit.visual, images).transpose(1, 2).unflatten(2, (4, 4))
    found = vit.dense_features(images)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2, 4, 4))
    # in the plain form they see each other
    plain = vit.plain_features(images)
    tokens = vit.visual._embeds(images)
    for block in blocks_of(vit.visual):
        tokens = block(tokens)
    mixed = F.normalize(vit.visual.ln_post(tokens[:, 1:]) @ vit.visual.proj, dim=2)
    torch.testing.assert_close(plain.flatten(2).transpose(1, 2), mixed)
    assert not torch.allclose(plain, found, atol=1e-2)


@pytest.mark.parametrize("size", [(32, 32), (48, 24), (8, 80)])
def test_one_trunk_gives_what_two_give_at_any_size(vit: ClipVit, size: tuple[int, int]) -> None:
    images = picture(*size)
    dense, whole = vit.dense_and_whole(images)
    assert dense.shape == (1, 10, size[0] // 8, size[1] // 8)
    torch.testing.assert_close(dense, vit.dense_features(images))
    torch.testing.assert_close(whole, vit.encode_image(images))


def test_twenty_sizes_go_through_one_model_and_the_first_comes_out_as_before(vit: ClipVit) -> None:
    first = vit.dense_features(picture(40, 24))
    for number in range(20):
        height, width = 8 * (1 + number % 7), 8 * (1 + number % 5 + number // 7)
        dense = vit.dense_features(picture(height, width, seed=number))
        assert dense.shape == (1, 10, height // 8, width // 8)
        assert dense.isfinite().all()
    assert torch.equal(vit.dense_features(picture(40, 24)), first)


def test_rows_and_columns_are_not_confused(vit: ClipVit) -> None:
    turned = tiny_dense(replace(TINY_VIT, layers=3))
    turned.load_state_dict(vit.state_dict())
    positions = turned.visual.positional_embedding.data
    grid = positions[1:].unflatten(0, (4, 4)).transpose(0, 1).flatten(0, 1)
    positions[1:] = grid.clone()
    kernel = turned.visual.conv1.weight.data
    kernel.copy_(kernel.transpose(2, 3).clone())
    images = picture(48, 24)
    found = turned.dense_features(images.transpose(2, 3)).transpose(2, 3)
    torch.testing.assert_close(found, vit.dense_features(images), rtol=1e-4, atol=1e-5)


def test_positions_of_the_trained_grid_stay_and_others_keep_the_class_tokens() -> None:
    positions = torch.randn(13, 5)
    assert torch.equal(resized_positions(positions, (3, 4), (3, 4)), positions)
    wide = resized_positions(positions, (3, 4), (3, 8))
    assert wide.shape == (25, 5)
    assert torch.equal(wide[0], positions[0])
    flat = resized_positions(torch.full((13, 5), 0.7), (3, 4), (7, 2))
    torch.testing.assert_close(flat, torch.full((15, 5), 0.7))


def test_token_maps_of_blocks_lead_to_the_dense_map(vit: ClipVit) -> None:
    images = picture(48, 32, batch=2)
    (first, last), dense = vit.token_maps(images, [0, 2])
    assert first.shape == last.shape == (2, 16, 6, 4)
    vectors = vit.visual.ln_post(last.flatten(2).transpose(1, 2)) @ vit.visual.proj
    expected = F.normalize(vectors, dim=2).transpose(1, 2).unflatten(2, (6, 4))
    torch.testing.assert_close(dense, expected)
    tokens = blocks_of(vit.visual)[0](vit.visual._embeds(picture(32, 32)))
    (own,), _ = vit.token_maps(picture(32, 32), [0])
    torch.testing.assert_close(own.flatten(2).transpose(1, 2), tokens[:, 1:])
    assert vit.token_maps(images, [])[0] == []


@pytest.mark.parametrize("blocks", [[3], [-1], [1, 0], [1, 1]])
def test_blocks_that_there_are_not_are_refused(vit: ClipVit, blocks: list[int]) -> None:
    with pytest.raises(ValueError, match="blocks must be increasing numbers below 3, got"):
        vit.token_maps(picture(32, 32), blocks)


@pytest.mark.parametrize("size", [(32, 36), (4, 32), (0, 32)])
def test_sides_that_do_not_divide_into_cells_are_refused(
    vit: ClipVit, size: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match=rf"images of {size[0]} x {size[1]} pixels do not divide"):
        vit.dense_features(picture(*size))


def test_a_mask_of_everything_is_the_class_token_and_an_empty_one_sees_it(vit: ClipVit) -> None:
    images = picture(32, 48, batch=2)
    everything, nothing = torch.ones(1, 4, 6, dtype=torch.bool), torch.zeros(1, 4, 6).bool()
    half = everything.clone()
    half[:, :, 3:] = False
    first, second = vit.encode_masks(images, [torch.cat([everything, nothing, half]), half[:0]])
    assert second.shape == (0, 10)
    # the class token attends to the same tokens, itself among them
    torch.testing.assert_close(first[0], vit.encode_image(images)[0])
    assert first.isfinite().all()
    # what others ask changes nobody's answer
    torch.testing.assert_close(first[2:], vit.encode_masks(images[:1], [half])[0])
    # what lies outside a mask is still seen by the patches inside it, but not by the class token
    assert not torch.allclose(first[0], first[2])


def test_gradients_reach_all_but_the_last_blocks_queries_and_keys() -> None:
    vit = tiny_dense()
    vit.dense_features(picture(32, 32)).square().mul(torch.rand(10, 4, 4)).sum().backward()
    gradient = blocks_of(vit.visual)[1].attn.in_proj_weight.grad
    assert isinstance(gradient, Tensor)
    assert not gradient[:32].any()
    assert gradient[32:].any()
    assert vit.visual.conv1.weight.grad is not None
    assert vit.visual.class_embedding.grad is not None


def test_open_clips_models_are_dense_towers_with_their_own_weights() -> None:
    encoder = tiny_vit()
    dense = dense_form_of(encoder)
    assert dense is not None
    assert dense.encoder_id == encoder.encoder_id
    images = picture(32, 32)
    torch.testing.assert_close(dense.encode_image(images), encoder.encode_image(images))
    assert dense.dense_features(picture(48, 16)).shape == (1, 10, 6, 2)


def test_towers_without_a_class_token_have_no_dense_form_here() -> None:
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    vision = CLIPVisionCfg(
        layers=1, width=16, head_width=8, patch_size=8, image_size=32, pool_type="avg"
    )
    text = CLIPTextCfg(context_length=16, vocab_size=600, width=16, heads=2, layers=1)
    model = CLIP(embed_dim=10, vision_cfg=vision, text_cfg=text)
    assert isinstance(model.visual, VisionTransformer)
    with pytest.raises(TypeError, match="has no class token to read the image from"):
        blocks_of(model.visual)
    open_clip.model.set_model_preprocess_cfg(
        model, {"size": (32, 32), "mean": (0.5,) * 3, "std": (0.25,) * 3}
    )
    assert (
        dense_form_of(OpenClipEncoder(model, name="x", tokenize=lambda _: torch.zeros(1))) is None
    )


@pytest.mark.parametrize(("cell", "side"), [(16, 1024), (14, 896), (32, 1024)])
def test_images_have_64_cells_a_side_but_no_more_than_1024_pixels(cell: int, side: int) -> None:
    assert usual_longest_side(cell) == side


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 36}, "image_size must be a multiple of patch_size = 8, got 36"),
        ({"width": 20}, "width must be a multiple of head_width = 8, got 20"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY_VIT, **change)


def test_masks_of_another_grid_are_refused_and_no_images_give_nothing(vit: ClipVit) -> None:
    turned = torch.ones(1, 4, 6, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"over the \(6, 4\) patches of their image, got \(4, 6\)"):
        vit.encode_masks(picture(48, 32), [turned])
    assert vit.encode_masks(picture(48, 32)[:0], []) == []
