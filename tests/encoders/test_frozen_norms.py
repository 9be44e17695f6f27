import pytest
import torch
from torch import nn

from regionclip.encoders.frozen_norms import (
    bottleneck,
    conv_norm,
    feature_map_with_frozen_norms,
    shortcut_parts,
)
from tests.tiny_clip import tiny_clip


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def test_the_map_and_its_gradients_are_those_of_the_modules() -> None:
    plain, ours = tiny_clip().requires_grad_(True), tiny_clip().requires_grad_(True)
    expected = plain.feature_map(images())
    found = feature_map_with_frozen_norms(ours.visual, images())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    convolutions = {
        name: module
        for name, module in ours.visual.named_modules()
        if isinstance(module, nn.Conv2d)
    }
    compared = 0
    for name, conv in convolutions.items():
        wanted = plain.visual.get_submodule(name).get_parameter("weight").grad
        if wanted is not None:
            torch.testing.assert_close(conv.weight.grad, wanted, rtol=1e-3, atol=1e-4)
            compared += 1
    assert compared == 3 + 3 * 4  # the stem, and three blocks with shortcuts


def test_norms_in_training_mode_stay_constants() -> None:
    encoder = tiny_clip()
    expected = feature_map_with_frozen_norms(encoder.visual, images())
    encoder.train()
    before = encoder.visual.bn1.get_buffer("running_mean").clone()
    torch.testing.assert_close(feature_map_with_frozen_norms(encoder.visual, images()), expected)
    assert torch.equal(encoder.visual.bn1.get_buffer("running_mean"), before)


def test_what_is_frozen_keeps_nothing_for_the_backward_pass() -> None:
    encoder = tiny_clip()
    assert feature_map_with_frozen_norms(encoder.visual, images()).grad_fn is None
    encoder.visual.layer3.requires_grad_(True)
    assert feature_map_with_frozen_norms(encoder.visual, images()).grad_fn is not None


def test_no_images_give_no_maps() -> None:
    assert feature_map_with_frozen_norms(tiny_clip().visual, images(0)).shape == (0, 128, 4, 6)


def test_other_blocks_and_norms_are_refused() -> None:
    with pytest.raises(TypeError, match="expected Bottleneck blocks, got ReLU"):
        bottleneck(torch.zeros(1, 8, 4, 4), nn.ReLU())
    with pytest.raises(TypeError, match="expected a batch norm, got Identity"):
        conv_norm(torch.zeros(1, 8, 4, 4), nn.Conv2d(8, 8, 1), nn.Identity())
    with pytest.raises(TypeError, match="no shortcut convolution"):
        shortcut_parts(tiny_clip().visual.layer4[1])  # type: ignore[arg-type]
