import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from regionclip.encoders.dense import DenseEncoder
from regionclip.encoders.dense_resnet import DenseClipResNet, dense_resnet_of
from tests.tiny_clip import TINY, tiny_clip


@pytest.fixture(scope="module")
def resnet() -> DenseClipResNet:
    return dense_resnet_of(tiny_clip())


def picture(height: int, width: int, *, seed: int = 0) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_it_is_a_dense_tower_that_shares_the_weights(resnet: DenseClipResNet) -> None:
    assert isinstance(resnet, DenseEncoder)
    encoder = tiny_clip()
    dense = dense_resnet_of(encoder)
    assert dense.clip is encoder.clip
    assert not any(module.training for module in dense.modules())
    assert (resnet.cell, resnet.embed_dim, resnet.image_size) == (32, 12, 64)


def test_a_cell_is_its_own_value_through_both_projections(resnet: DenseClipResNet) -> None:
    images = picture(64, 64)
    visual = resnet.visual
    layer4 = visual.layer4(resnet.feature_map(images))
    torch.testing.assert_close(resnet.layer4_map(images), layer4, rtol=1e-4, atol=1e-5)
    cells = layer4.flatten(2).transpose(1, 2) + visual.attnpool.positional_embedding[1:]
    expected = visual.attnpool.c_proj(visual.attnpool.v_proj(cells))
    expected = F.normalize(expected, dim=2).transpose(1, 2).unflatten(2, (2, 2))
    torch.testing.assert_close(resnet.dense_features(images), expected, rtol=1e-4, atol=1e-5)


def test_whole_images_of_the_trained_size_are_the_towers(resnet: DenseClipResNet) -> None:
    images = picture(64, 64)
    dense, whole = resnet.dense_and_whole(images)
    torch.testing.assert_close(whole, resnet.visual(images), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole, resnet.encode_image(images))
    torch.testing.assert_close(dense, resnet.dense_features(images))


def test_twenty_sizes_of_any_shape_go_through_one_model(resnet: DenseClipResNet) -> None:
    for number in range(20):
        height, width = 32 * (1 + number % 4), 32 * (1 + number % 5)
        dense, whole = resnet.dense_and_whole(picture(height, width, seed=number))
        assert dense.shape == (2, TINY.embed_dim, height // 32, width // 32)
        assert whole.shape == (2, TINY.embed_dim)
        torch.testing.assert_close(dense.norm(dim=1), torch.ones(2, height // 32, width // 32))


def test_norms_stay_as_they_are_in_training() -> None:
    resnet = dense_resnet_of(tiny_clip())
    expected = resnet.dense_features(picture(64, 96))
    before = {name: each.clone() for name, each in resnet.named_buffers()}
    assert torch.equal(resnet.train().dense_features(picture(64, 96)), expected)
    assert all(torch.equal(each, before[name]) for name, each in resnet.named_buffers())


def test_sides_that_do_not_divide_into_cells_are_refused(resnet: DenseClipResNet) -> None:
    with pytest.raises(ValueError, match="images of 64 x 80 pixels do not divide into cells of 32"):
        resnet.dense_features(picture(64, 80))
