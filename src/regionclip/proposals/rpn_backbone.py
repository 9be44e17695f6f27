"""Image trunks of proposal networks: maps of strides 4, 8, 16, ... from torchvision's blocks."""

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, conv1x1

StridedConv = Literal["conv1", "conv2"]


class ResNetTrunk(nn.Module):
    """A bottleneck ResNet of any depth and width; keys are torchvision's.

    Attributes:
        channels: Channels of each map.
    """

    def __init__(self, layers: Sequence[int], *, width: int, strided_conv: StridedConv) -> None:
        """Build with random weights.

        Args:
            layers: Blocks of ``layer1``, ``layer2``, ...; as many maps, of stride 4, 8, ...
            width: Channels after the stem; ``layer1`` gives four times as many.
            strided_conv: Which convolution of a block halves the map: ``conv1`` (1x1) in MSRA's
                original weights, ``conv2`` (3x3) in torchvision's.
        """
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.channels = [4 * width << depth for depth in range(len(layers))]
        in_channels = width
        for depth, num_blocks in enumerate(layers):
            stage = resnet_stage(
                in_channels,
                width << depth,
                num_blocks,
                stride=1 if depth == 0 else 2,
                strided_conv=strided_conv,
            )
            self.add_module(f"layer{depth + 1}", stage)
            in_channels = self.channels[depth]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        """One map per stage, strides 4, 8, ... (rounding up)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        maps = []
        for depth in range(len(self.channels)):
            x = self.get_submodule(f"layer{depth + 1}")(x)
            maps.append(x)
        return maps


class ClipTrunk(ModifiedResNet):
    """CLIP's ModifiedResNet without its attention pool; keys are OpenAI's.

    Attributes:
        channels: Channels of each map.
    """

    def __init__(self, layers: Sequence[int], *, width: int) -> None:
        super().__init__(list(layers), output_dim=1, heads=1, image_size=32, width=width)
        del self.attnpool
        self.channels = [4 * width << depth for depth in range(4)]

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        """Maps of strides 4, 8, 16, 32 (each pooling rounds down)."""
        x = self.stem(x)
        maps = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return maps


def resnet_stage(
    in_channels: int, planes: int, num_blocks: int, *, stride: int, strided_conv: StridedConv
) -> nn.Sequential:
    """Bottleneck blocks with random weights; keys are torchvision's.

    Args:
        in_channels: Of the map before.
        planes: Channels inside the blocks; four times as many come out.
        num_blocks: How many.
        stride: Of the first one.
        strided_conv: As of :class:`ResNetTrunk`.
    """
    out_channels = planes * Bottleneck.expansion
    shortcut = nn.Sequential(
        conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels)
    )
    first = Bottleneck(in_channels, planes, stride, shortcut)
    if strided_conv == "conv1":
        first.conv1.stride, first.conv2.stride = first.conv2.stride, first.conv1.stride
    return nn.Sequential(first, *(Bottleneck(out_channels, planes) for _ in range(num_blocks - 1)))
