"""NAS-FPN: a pyramid whose levels are merged in an order that was searched for, again and again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops.misc import Conv2dNormActivation

from regionclip.encoders.shared_norms import SharedBatchNorm


@dataclass(frozen=True, slots=True)
class Merge:
    """Two maps made one.

    Attributes:
        how: ``sum``, or ``gate``: the first, and the second by how much there is in the first.
        first: Number of a map: 0 to 4 are the levels, finest first, then those merged before.
        second: Number of the other map.
        level: Whose size the merged map has.
        adds_level: Also adds that level, which no merge reads.
    """

    how: Literal["sum", "gate"]
    first: int
    second: int
    level: int
    adds_level: bool = False


MERGES = (
    Merge("gate", 1, 3, level=1),
    Merge("sum", 1, 5, level=1),
    Merge("sum", 0, 6, level=0),
    Merge("sum", 6, 7, level=1),
    Merge("gate", 7, 8, level=2, adds_level=True),
    Merge("gate", 6, 9, level=4, adds_level=True),
    Merge("gate", 9, 10, level=3),
)
"""The seven merges that the search found; NAS-FPN (arXiv:1904.07392), fig. 7."""
OUTPUTS = (7, 8, 9, 11, 10)
"""The merged map of each level, finest first."""
NUM_LEVELS = 5


class MergingPass(nn.Module):
    """All merges once: five levels to five levels of the same sizes.

    Attributes:
        layers: After each merge: ReLU, 3x3 convolution, norm.

    Source:
        NAS-FPN (arXiv:1904.07392), sec. 3.1: maps are resized by nearest neighbours or by maxima,
        and what no merge reads is added to what comes out at its level.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                SharedBatchNorm(channels),
            )
            for _ in MERGES
        )

    def forward(self, levels: Sequence[Float[Tensor, "B F _ _"]]) -> list[Tensor]:
        """Merge ``NUM_LEVELS`` maps, finest first."""
        maps = list(levels)
        for merge, layer in zip(MERGES, self.layers, strict=True):
            size = (int(levels[merge.level].shape[2]), int(levels[merge.level].shape[3]))
            merged = merged_maps(
                resized(maps[merge.first], size), resized(maps[merge.second], size), how=merge.how
            )
            if merge.adds_level:
                merged = merged + levels[merge.level]
            maps.append(layer(merged))
        return [maps[number] for number in OUTPUTS]


class NasNeck(nn.Module):
    """Four maps to five levels, merged in several passes with weights of their own.

    Attributes:
        laterals: To the levels' channels.
        passes: One after the other.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, *, num_passes: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(
            Conv2dNormActivation(
                each, channels, 1, norm_layer=SharedBatchNorm, activation_layer=None
            )
            for each in in_channels
        )
        self.passes = nn.ModuleList(MergingPass(channels) for _ in range(num_passes))

    def forward(self, scales: Sequence[Tensor]) -> list[Tensor]:
        """Five maps of ``channels`` channels, finest first; the fifth has half the fourth's sides.

        Args:
            scales: Four maps, finest first.
        """
        levels = [lateral(each) for lateral, each in zip(self.laterals, scales, strict=True)]
        levels.append(F.max_pool2d(levels[-1], 2))
        for each in self.passes:
            levels = each(levels)
        return levels


def merged_maps(
    first: Float[Tensor, "B F h w"], second: Float[Tensor, "B F h w"], *, how: str
) -> Float[Tensor, "B F h w"]:
    """One map of two; see :class:`Merge`."""
    if how == "sum":
        return first + second
    return first + second * torch.sigmoid(first.amax(dim=(2, 3), keepdim=True))


def resized(maps: Float[Tensor, "B F h w"], size_hw: tuple[int, int]) -> Tensor:
    """A map in another size: each cell repeated, or the largest of those that become one."""
    if maps.shape[2] >= size_hw[0]:
        return F.adaptive_max_pool2d(maps, size_hw)
    return F.interpolate(maps, size_hw, mode="nearest")
