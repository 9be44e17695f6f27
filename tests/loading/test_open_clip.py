"""Files in which one of open_clip's models was trained further."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import regionclip
from regionclip.checkpoints import CheckpointError, read_native_metadata, save_native
from regionclip.encoders.crop_encoder import OpenClipEncoder
from regionclip.loading.open_clip import METHOD, in_dense_form, names_resnet, read_dense, save_dense
from regionclip.loading.regionclip import resnet_of
from tests.tiny_open_clip import TINY_CONVNEXT, TINY_RESNET, tiny_named, write_convnext


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_convnext(tmp_path_factory.mktemp("open_clip") / "convnext.safetensors")


def test_a_file_gives_the_model_that_was_written(weights: Path) -> None:
    read = read_dense(weights)
    assert read.config.architecture == TINY_CONVNEXT
    assert not read.config.quick_gelu
    assert read_native_metadata(weights).encoder_id == read.encoder.encoder_id
    written = load_file(weights)
    for name, own in read.weights.model.state_dict().items():
        assert torch.equal(own, written[name]), name


def test_a_file_keeps_how_pixels_were_normalised(weights: Path, tmp_path: Path) -> None:
    half = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.5, 0.75)}
    model = in_dense_form(OpenClipEncoder.create(TINY_CONVNEXT, pixels=half), "a tower")
    save_dense(tmp_path / "half.safetensors", model)
    read = read_dense(tmp_path / "half.safetensors")
    for own in (read.weights, read.encoder):
        assert (tuple(own.mean), tuple(own.std)) == (half["mean"], half["std"])


def test_a_file_is_a_detector_of_given_boxes(weights: Path) -> None:
    model = regionclip.load(weights)
    image = Image.new("RGB", (64, 96), (200, 30, 30))
    boxes = torch.tensor([[0.0, 0.0, 32.0, 32.0], [8.0, 8.0, 64.0, 90.0]])
    assert model.encode_regions(image, boxes).shape == (2, 12)
    crops = regionclip.load(weights, regions="crops")
    assert crops.encode_regions(image, boxes).shape == (2, 12)


def test_a_file_of_another_architecture_is_refused(weights: Path, tmp_path: Path) -> None:
    unknown = tmp_path / "unknown.safetensors"
    config = {"architecture": "no-such", "quick_gelu": False}
    save_native(unknown, {"logit_scale": torch.ones(1)}, method=METHOD, config=config)
    with pytest.raises(ValueError, match="unknown open_clip architecture 'no-such'"):
        regionclip.load(unknown)
    half = tmp_path / "half.safetensors"
    tensors = load_file(weights)
    config = read_native_metadata(weights).config
    kept = {name: tensor for name, tensor in tensors.items() if name.startswith("visual.")}
    save_native(half, kept, method=METHOD, config=config)
    with pytest.raises(CheckpointError, match=f"lacks .* of open_clip's {TINY_CONVNEXT}"):
        regionclip.load(half)
    other = tmp_path / "other.safetensors"
    save_file(tensors, other)
    with pytest.raises(CheckpointError, match=r"other\.safetensors"):
        read_dense(other)


def test_a_resnet_of_open_clips_is_read_as_released_ones_are(tmp_path: Path) -> None:
    named = tiny_named(TINY_RESNET, tmp_path)
    assert names_resnet(f"somebody:{TINY_RESNET}")
    assert not names_resnet("somebody:ViT-B-32")
    assert not names_resnet("somebody:no-such")
    model = resnet_of(named, source="somebody's")
    texts = named.tokenize(["a dog"])
    with torch.no_grad():
        assert model.encoder.encode_tokens(texts).equal(named.encode_tokens(texts))
        image = torch.rand(1, 3, 64, 64)
        expected = named.encode_image(image)
        torch.testing.assert_close(model.encoder.encode_image(image), expected)
    with pytest.raises(ValueError, match=r"no sound dense form of this one \(tiny-resnet\) is kn"):
        in_dense_form(named, "this one")
