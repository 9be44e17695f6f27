from dataclasses import replace

import open_clip
import pytest
import torch

from regionclip.encoders.clip_resnet import SPECS, ClipResNet
from tests.tiny_clip import TINY, tiny_clip

TEXTS = ["a photo of a cat.", "two remote controls", "x"]


def test_specs_are_open_clips_architectures() -> None:
    for name, spec in SPECS.items():
        config = open_clip.get_model_config(name)
        assert config is not None
        vision, text = config["vision_cfg"], config["text_cfg"]
        assert spec.embed_dim == config["embed_dim"]
        assert (spec.image_size, list(spec.layers)) == (vision["image_size"], vision["layers"])
        assert spec.width == (vision["width"] or 64)
        assert (spec.text_width, spec.text_heads) == (text["width"], text["heads"])
        assert (spec.text_layers, spec.context_length) == (text["layers"], text["context_length"])
        assert spec.vocab_size == text["vocab_size"]


def test_the_map_then_layer4_and_pool_are_the_image_tower() -> None:
    encoder, images = tiny_clip(), torch.randn(2, 3, 64, 64)
    feature_map = encoder.feature_map(images)
    assert feature_map.shape == (2, TINY.map_channels, 4, 4)
    visual = encoder.visual
    found = visual.attnpool(visual.layer4(feature_map))
    torch.testing.assert_close(found, encoder.encode_image(images))


def test_image_and_text_vectors_equal_open_clips() -> None:
    encoder, images = tiny_clip(), torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(encoder.encode_image(images), encoder.clip.encode_image(images))
    tokens = encoder.tokenize(TEXTS)
    torch.testing.assert_close(encoder.encode_tokens(tokens), encoder.clip.encode_text(tokens))


def test_columns_of_padding_can_be_left_out() -> None:
    encoder = tiny_clip()
    tokens = encoder.tokenize(["a cat", "x"])
    used = int((tokens != 0).any(dim=0).sum())
    assert used < tokens.shape[1]
    torch.testing.assert_close(
        encoder.encode_tokens(tokens[:, :used]), encoder.encode_tokens(tokens)
    )


def test_the_map_takes_images_of_any_size() -> None:
    assert tiny_clip().feature_map(torch.randn(1, 3, 80, 112)).shape[-2:] == (5, 7)


def test_prepare_normalises_then_pads_with_zeros() -> None:
    spec = replace(TINY, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    batch = tiny_clip(spec=spec).prepare([torch.ones(3, 4, 6), torch.zeros(3, 5, 2)])
    assert batch.shape == (2, 3, 5, 6)
    assert torch.equal(batch[0, :, :4], torch.full((3, 4, 6), 2.0))
    assert torch.equal(batch[1, :, :, :2], torch.full((3, 5, 2), -2.0))
    assert not batch[0, :, 4:].any()
    assert not batch[1, :, :, 2:].any()


def test_sizes_follow_from_the_spec() -> None:
    assert (SPECS["RN50"].map_channels, SPECS["RN50"].pool_grid, SPECS["RN50"].roi_grid) == (
        1024,
        7,
        14,
    )


def test_encoder_id_is_the_text_towers() -> None:
    encoder = tiny_clip()
    before = encoder.encoder_id
    assert before.startswith("tiny:")
    encoder.visual.conv1.weight.mul_(2)
    assert encoder.encoder_id == before
    encoder.clip.get_parameter("token_embedding.weight")[-1, -1] += 1
    assert encoder.encoder_id != before


def test_encoder_id_tells_what_no_tensor_does() -> None:
    encoder = tiny_clip()
    for spec in (replace(TINY, text_heads=4), replace(TINY, quick_gelu=False)):
        other = tiny_clip(spec=spec)
        other.load_state_dict(encoder.state_dict())
        assert other.encoder_id != encoder.encoder_id


def test_state_keys_are_open_clips() -> None:
    keys = {key.removeprefix("clip.") for key in tiny_clip().state_dict()}
    assert {"visual.conv1.weight", "token_embedding.weight", "logit_scale"} <= keys
    assert keys == set(ClipResNet(TINY).clip.state_dict())


@pytest.mark.parametrize("vocab_size", [100, 60000])
def test_an_impossible_vocabulary_is_refused(vocab_size: int) -> None:
    with pytest.raises(ValueError, match="vocab_size must be in"):
        ClipResNet(replace(TINY, vocab_size=vocab_size))
