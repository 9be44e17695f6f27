"""From the tokens of a frozen tower to the maps of a detector: four scales, then five levels."""

from collections import OrderedDict
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from regionclip.encoders.shared_norms import SharedBatchNorm

NUM_SCALES = 4
"""Maps that the pyramid takes; it adds one."""


class TokenScales(nn.Module):
    """Maps of one scale, made four: 4, 2, 1 and 1/2 times as many cells a side.

    Attributes:
        finest: x4.
        finer: x2.
        coarser: x1/2.

    Source:
        ViTDet (arXiv:2203.16527), sec. 3, with maps of four blocks in place of the last one's;
        CLIPSelf (arXiv:2310.01403), sec. 3.3.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.finest = nn.Sequential(
            nn.ConvTranspose2d(channels, channels, 2, stride=2),
            SharedBatchNorm(channels),
            nn.GELU(),
            nn.ConvTranspose2d(channels, channels, 2, stride=2),
        )
        self.finer = nn.Sequential(nn.ConvTranspose2d(channels, channels, 2, stride=2))
        self.coarser = nn.MaxPool2d(2, stride=2)

    def forward(self, maps: Sequence[Float[Tensor, "B F h w"]]) -> list[Tensor]:
        """One map per scale of four maps of one size, whose sides are even; finest first."""
        finest, finer, same, coarser = maps
        return [self.finest(finest), self.finer(finer), same, self.coarser(coarser)]


class Neck(nn.Module):
    """A feature pyramid with norms, and a coarser fifth level.

    Attributes:
        pyramid: torchvision's.

    Source:
        FPN (arXiv:1612.03144), sec. 3.
    """

    def __init__(self, in_channels: Sequence[int], channels: int) -> None:
        super().__init__()
        self.pyramid = FeaturePyramidNetwork(
            list(in_channels),
            channels,
            extra_blocks=LastLevelMaxPool(),
            norm_layer=SharedBatchNorm,
        )

    def forward(self, scales: Sequence[Tensor]) -> list[Tensor]:
        """Five maps of ``channels`` channels, finest first."""
        named = OrderedDict((str(level), each) for level, each in enumerate(scales))
        return list(self.pyramid(named).values())
