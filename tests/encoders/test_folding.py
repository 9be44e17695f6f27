import pytest
import torch
from torch import nn
from torchvision.ops import Conv2dNormActivation

from regionclip.encoders.batch_norms import fold_batch_norms
from regionclip.encoders.folding import folded_map_tower
from tests.tiny_clip import tiny_clip


def with_random_norms(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d):
            each.running_mean.normal_()  # type: ignore[union-attr]
            each.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            nn.init.normal_(each.weight)
            nn.init.normal_(each.bias)
    return module.eval()


def test_the_folded_tower_gives_the_same_map() -> None:
    encoder, images = tiny_clip(), torch.randn(1, 3, 64, 96)
    found = folded_map_tower(encoder.visual)(images)
    torch.testing.assert_close(found, encoder.feature_map(images), rtol=1e-4, atol=1e-5)


def test_the_folded_tower_is_a_copy_without_norms_or_gradients() -> None:
    encoder = tiny_clip().requires_grad_(True)
    tower = folded_map_tower(encoder.visual)
    assert not any(isinstance(each, nn.BatchNorm2d) for each in tower.modules())
    assert any(isinstance(each, nn.BatchNorm2d) for each in encoder.visual.layer1.modules())
    assert not any(each.requires_grad for each in tower.parameters())
    own = {each.data_ptr() for each in encoder.parameters()}
    assert not own & {each.data_ptr() for each in tower.parameters()}


def test_folding_changes_nothing_but_the_number_of_modules() -> None:
    block = with_random_norms(
        nn.Sequential(Conv2dNormActivation(3, 4, 3), nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5))
    )
    images = torch.randn(2, 3, 8, 8)
    before = block(images)
    fold_batch_norms(block)
    torch.testing.assert_close(block(images), before, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(each, nn.BatchNorm2d) for each in block.modules())


def test_a_norm_that_follows_no_convolution_stays() -> None:
    block = with_random_norms(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)))
    fold_batch_norms(block)
    assert isinstance(block[1], nn.BatchNorm2d)  # type: ignore[index]


def test_folding_in_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"eval mode only; call \.eval\(\) first"):
        fold_batch_norms(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train())
