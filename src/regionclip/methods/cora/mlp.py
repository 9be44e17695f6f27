"""The small networks between the localiser's layers."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Mlp(nn.Module):
    """Linear layers with ReLU between them, none after the last."""

    def __init__(self, *channels: int) -> None:
        """Make one layer for each two neighbours of ``channels``."""
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*ends) for ends in pairwise(channels))

    def forward(self, x: Float[Tensor, "*N I"]) -> Float[Tensor, "*N O"]:
        """Last axis to the last number of channels."""
        *first, last = self.layers
        for layer in first:
            x = torch.relu(layer(x))
        return last(x)


class Zeros(nn.Module):
    """In the place of an :class:`Mlp`: zeros, whatever comes in."""

    def __init__(self, width: int) -> None:
        """Give ``width`` channels."""
        super().__init__()
        self.width = width

    def forward(self, x: Float[Tensor, "*N I"]) -> Float[Tensor, "*N O"]:
        """As many rows as there are in ``x``."""
        return x.new_zeros(*x.shape[:-1], self.width)
