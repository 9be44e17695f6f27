"""ResNet parts whose batch norms are constants, with gradients for everything else.

A batch norm that neither learns nor counts is a factor and a number per channel. Here they are
multiplied into the convolution before it at every call: one pass over memory instead of two, one
activation kept for the backward pass instead of two, and the same result up to rounding.
"""

import torch
from jaxtyping import Float
from open_clip.modified_resnet import Bottleneck, ModifiedResNet
from torch import Tensor, nn
from torch.nn import functional as F


def feature_map_with_frozen_norms(
    visual: ModifiedResNet, images: Float[Tensor, "B 3 H W"]
) -> Float[Tensor, "B F h w"]:
    """Stem to layer3 of normalised images, as the tower gives in ``eval`` mode.

    Only what needs gradients keeps anything for the backward pass: a frozen stem costs nothing.
    """
    x = images
    for conv, norm in (
        (visual.conv1, visual.bn1),
        (visual.conv2, visual.bn2),
        (visual.conv3, visual.bn3),
    ):
        x = torch.relu_(conv_norm(x, conv, norm))
    x = visual.avgpool(x)
    for layer in (visual.layer1, visual.layer2, visual.layer3):
        for block in layer:
            x = bottleneck(x, block)
    return x


def bottleneck(x: Float[Tensor, "B F h w"], block: nn.Module) -> Float[Tensor, "B G i j"]:
    """One block of a ModifiedResNet.

    Raises:
        TypeError: ``block`` is of another kind.
    """
    if not isinstance(block, Bottleneck):
        raise TypeError(f"expected Bottleneck blocks, got {type(block).__name__}")
    out = torch.relu_(conv_norm(x, block.conv1, block.bn1))
    out = torch.relu_(conv_norm(out, block.conv2, block.bn2))
    out = conv_norm(block.avgpool(out), block.conv3, block.bn3)
    if block.downsample is not None:
        pool, conv, norm = shortcut_parts(block)
        x = conv_norm(pool(x), conv, norm)
    return torch.relu_(out.add_(x))


def shortcut_parts(block: Bottleneck) -> tuple[nn.Module, nn.Conv2d, nn.BatchNorm2d]:
    """Pooling, convolution and norm of a block's shortcut.

    Raises:
        TypeError: The block has no such shortcut.
    """
    parts = list(block.downsample.children()) if block.downsample is not None else []
    if len(parts) != 3 or not isinstance(parts[1], nn.Conv2d):
        raise TypeError("the block has no shortcut convolution")
    return parts[0], parts[1], frozen(parts[2])


def conv_norm(
    x: Float[Tensor, "B F h w"], conv: nn.Conv2d, norm: nn.Module
) -> Float[Tensor, "B G i j"]:
    """A convolution and its batch norm in one pass, in the precision of ``x``."""
    weight, bias = folded_weight(conv, norm), norm_bias(norm)
    return F.conv2d(
        x, weight.to(x.dtype), bias.to(x.dtype), stride=conv.stride, padding=_padding(conv)
    )


def folded_weight(conv: nn.Conv2d, norm: nn.Module) -> Float[Tensor, "G F i j"]:
    """The convolution's weight times the norm's factor."""
    return conv.weight * _scale(norm)[:, None, None, None]


def norm_bias(norm: nn.Module) -> Float[Tensor, " G"]:
    """The number that the norm adds."""
    own = frozen(norm)
    return own.bias - own.get_buffer("running_mean") * _scale(own)


def frozen(norm: nn.Module) -> nn.BatchNorm2d:
    """The norm itself.

    Raises:
        TypeError: It is no batch norm.
    """
    if not isinstance(norm, nn.BatchNorm2d):
        raise TypeError(f"expected a batch norm, got {type(norm).__name__}")
    return norm


def _scale(norm: nn.Module) -> Tensor:
    own = frozen(norm)
    return own.weight * torch.rsqrt(own.get_buffer("running_var") + own.eps)


def _padding(conv: nn.Conv2d) -> tuple[int, int]:
    if isinstance(conv.padding, str):
        raise TypeError(f"expected padding in cells, got {conv.padding!r}")
    return conv.padding[0], conv.padding[1]
