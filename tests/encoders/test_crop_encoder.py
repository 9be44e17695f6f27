import open_clip
import pytest
import torch

from regionclip.encoders.crop_encoder import OpenClipEncoder, image_input
from regionclip.encoders.text import class_embeddings
from tests.tiny_clip import TINY, tiny_clip, tiny_vit


def test_image_vectors_are_the_models() -> None:
    encoder, images = tiny_vit(), torch.randn(2, 3, 32, 32)
    expected = encoder.model.encode_image(images)  # type: ignore[operator]
    torch.testing.assert_close(encoder.encode_image(images), expected)


def test_text_vectors_are_the_models_though_padding_was_cut() -> None:
    encoder = tiny_vit()
    tokens = encoder.tokenize(["a cat", "a remote"])
    expected = encoder.model.encode_text(tokens)  # type: ignore[operator]
    torch.testing.assert_close(encoder.encode_tokens(tokens), expected)
    short = tokens[:, : int((tokens != 0).any(dim=0).sum())]
    assert short.shape[1] < 16
    torch.testing.assert_close(encoder.encode_tokens(short), expected)


def test_class_embeddings_take_any_encoder() -> None:
    assert class_embeddings(tiny_vit(), ["cat", "dog"], ["a {}.", "{}"]).shape == (2, 10)


def test_encoder_id_names_the_architecture_and_the_text_tower() -> None:
    assert tiny_vit(0).encoder_id.startswith("tiny-vit:")
    assert tiny_vit(0).encoder_id == tiny_vit(0).encoder_id
    assert tiny_vit(0).encoder_id != tiny_vit(1).encoder_id


@pytest.mark.parametrize(
    "name", ["token_embedding.weight", "transformer.resblocks.0.mlp.c_fc.bias"]
)
def test_encoder_id_depends_on_large_and_small_tensors_of_the_text_tower(name: str) -> None:
    encoder = tiny_vit()
    before = encoder.encoder_id
    encoder.model.get_parameter("visual.proj").mul_(2)
    assert encoder.encoder_id == before
    encoder.model.get_parameter(name).view(-1)[-1] += 1
    assert encoder.encoder_id != before


def test_image_input_is_that_of_each_kind_of_encoder() -> None:
    size, mean, std = image_input(tiny_vit())
    assert size == (32, 32)
    assert mean.tolist() == [[[0.5]]] * 3
    assert std.tolist() == [[[0.25]]] * 3
    assert image_input(tiny_clip())[0] == (TINY.image_size, TINY.image_size)
    assert image_input(tiny_clip())[1].flatten().tolist() == pytest.approx(TINY.mean)


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown open_clip architecture 'ViT-Z'"):
        OpenClipEncoder.create("ViT-Z")


def test_unknown_weights_are_refused_with_those_that_exist() -> None:
    assert "openai" in open_clip.list_pretrained_tags_by_model("ViT-B-32")
    with pytest.raises(ValueError, match=r"no weights 'nowhere' for ViT-B-32; .*openai"):
        OpenClipEncoder.create("ViT-B-32", "nowhere")


@pytest.mark.parametrize(("tag", "is_quick"), [("dfn2b", True), ("laion2b_s34b_b88k", False)])
def test_released_weights_run_with_the_activation_that_they_were_trained_with(
    tag: str, is_quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, object] = {}

    def without_weights(architecture: str, **options: object) -> torch.nn.Module:
        asked.update(options)
        return tiny_vit().model

    monkeypatch.setattr(open_clip, "create_model", without_weights)
    OpenClipEncoder.create("ViT-B-16", tag)
    assert asked == {
        "pretrained": tag,
        "force_quick_gelu": is_quick,
        "force_preprocess_cfg": None,
    }
