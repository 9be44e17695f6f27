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
