from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from regionclip.encoders.mean_clip import MEAN_SPECS, MeanClip
from tests.tiny_mean import TINY_MEANS, tiny_mean

each_trunk = pytest.mark.parametrize("trunk", TINY_MEANS)


def images(height: int, width: int) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


@each_trunk
def test_maps_of_any_size(trunk: str) -> None:
    encoder = tiny_mean(trunk)
    cell, channels = encoder.cell, encoder.spec.map_channels
    for height, width in ((64, 64), (96, 160), (70, 45)):
        beyond = 0 if trunk == "vit" else 1
        rows, columns = (side // cell + beyond * (side % cell > 0) for side in (height, width))
        assert encoder.feature_map(images(height, width)).shape == (2, channels, rows, columns)


@each_trunk
def test_an_image_is_the_mean_of_its_cells(trunk: str) -> None:
    encoder = tiny_mean(trunk)
    means = encoder.feature_map(images(64, 96)).mean(dim=(2, 3))
    if trunk != "vit":
        weight, bias = (encoder.norm.get_parameter(each) for each in ("weight", "bias"))
        means = F.layer_norm(means, means.shape[1:], weight, bias)
    expected = means @ encoder.image_projection
    torch.testing.assert_close(encoder.encode_image(images(64, 96)), expected)


def test_what_a_vit_cuts_off_and_the_others_fill_up() -> None:
    batch = images(70, 45)
    vit, swin = tiny_mean("vit"), tiny_mean("swin")
    assert torch.equal(vit.feature_map(batch), vit.feature_map(batch[:, :, :64, :32]))
    filled = F.pad(batch, (0, 19, 0, 26))
    assert torch.equal(swin.feature_map(batch), swin.feature_map(filled))


def test_vit_patches_are_normed_one_by_one() -> None:
    vit = tiny_mean("vit")
    cells = vit.feature_map(images(64, 32)).permute(0, 2, 3, 1)
    torch.testing.assert_close(cells.mean(dim=-1), torch.zeros(2, 4, 2), rtol=0, atol=1e-5)


def test_a_text_that_sees_ahead_does_not_depend_on_what_was_cut() -> None:
    encoder = tiny_mean("vit")
    tokens = encoder.tokenize(["a cat", "a small dog"])
    used = int((tokens != 0).sum(dim=1).max())
    whole = encoder.encode_tokens(tokens)
    torch.testing.assert_close(encoder.encode_tokens(tokens[:, :used]), whole)
    causal = MeanClip(replace(encoder.spec, causal_text=True)).eval()
    causal.load_state_dict(encoder.state_dict())
    assert not torch.allclose(causal.encode_tokens(tokens), whole, atol=1e-3)
    assert causal.encode_tokens(tokens).shape == (2, encoder.embed_dim)


@pytest.mark.slow
def test_the_branchs_four_encoders() -> None:
    channels = {"vit": 768, "swin": 1024, "davit": 1024, "focalnet": 1024}
    for spec in MEAN_SPECS.values():
        with torch.device("meta"):
            encoder = MeanClip(spec)
        assert encoder.image_projection.shape == (channels[spec.trunk], 512)
        assert encoder.cell == (16 if spec.trunk == "vit" else 32)
