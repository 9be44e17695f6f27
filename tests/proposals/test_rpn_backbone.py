import pytest
import torch
from torch import nn
from torchvision.models import resnet50

from regionclip.encoders.batch_norms import fold_batch_norms
from regionclip.proposals.rpn_backbone import ClipTrunk, ResNetTrunk


def randomize_norms(module: nn.Module) -> None:
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_trunk_with_stride_in_the_3x3_is_torchvisions_resnet50() -> None:
    reference = resnet50(weights=None).eval()
    trunk = ResNetTrunk((3, 4, 6, 3), width=64, strided_conv="conv2").eval()
    state = {key: value for key, value in reference.state_dict().items() if "fc." not in key}
    trunk.load_state_dict(state)
    images = torch.rand(1, 3, 65, 90)
    with torch.no_grad():
        x = reference.maxpool(reference.relu(reference.bn1(reference.conv1(images))))
        maps = trunk(images)
        for ours, layer in zip(maps, ("layer1", "layer2", "layer3", "layer4"), strict=True):
            x = reference.get_submodule(layer)(x)
            torch.testing.assert_close(ours, x)


def test_strided_conv_names_the_convolution_that_halves() -> None:
    trunk = ResNetTrunk((1, 1), width=8, strided_conv="conv1")
    first = trunk.get_submodule("layer2.0")
    assert first.get_submodule("conv1").stride == (2, 2)
    assert first.get_submodule("conv2").stride == (1, 1)


@pytest.mark.parametrize(
    "trunk",
    [ResNetTrunk((1, 2, 1), width=8, strided_conv="conv1"), ClipTrunk((1, 1, 2, 1), width=8)],
    ids=["resnet", "clip"],
)
def test_maps_have_the_declared_channels_and_doubling_strides(trunk: ResNetTrunk) -> None:
    maps = trunk(torch.rand(2, 3, 64, 96))
    assert [tuple(level.shape) for level in maps] == [
        (2, channels, 16 >> depth, 24 >> depth) for depth, channels in enumerate(trunk.channels)
    ]


@pytest.mark.parametrize(
    "trunk",
    [ResNetTrunk((2, 1), width=8, strided_conv="conv1"), ClipTrunk((1, 2, 1, 1), width=8)],
    ids=["resnet", "clip"],
)
def test_folding_leaves_no_batch_norm_and_the_same_maps(trunk: ResNetTrunk) -> None:
    randomize_norms(trunk)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = trunk.eval()(images)
        fold_batch_norms(trunk)
        folded = trunk.train()(images)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in trunk.modules())
    for ours, reference in zip(folded, expected, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-4)


def test_folding_is_refused_in_training_mode() -> None:
    with pytest.raises(ValueError, match=r"eval mode only; call \.eval\(\) first"):
        fold_batch_norms(ResNetTrunk((1,), width=8, strided_conv="conv1"))
