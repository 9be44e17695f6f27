"""The map of an image, made aware of itself: a small transformer encoder."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from .mlp import Mlp


class FeedForward(nn.Module):
    """Two linear layers with a leaky ReLU between them whose slope is learned.

    Source:
        Transformer (arXiv:1706.03762), sec. 3.3, with PReLU as tgxs002/CORA@c334a6d.
    """

    def __init__(self, width: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.expand = nn.Linear(width, feedforward)
        self.activation = nn.PReLU()
        self.dropout = nn.Dropout(dropout)
        self.contract = nn.Linear(feedforward, width)

    def forward(self, x: Float[Tensor, "B N d"]) -> Float[Tensor, "B N d"]:
        """Each row by itself."""
        return self.contract(self.dropout(self.activation(self.expand(x))))


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each added to its input and normalised after that."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.attention_norm = nn.LayerNorm(width)
        self.feedforward = FeedForward(width, feedforward, dropout)
        self.feedforward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        cells: Float[Tensor, "B T d"],
        positions: Float[Tensor, "B T d"],
        padding: Bool[Tensor, "B T"] | None,
    ) -> Float[Tensor, "B T d"]:
        """Cells that padding does not hide look at each other."""
        placed = cells + positions
        seen, _ = self.attention(
            placed, placed, cells, key_padding_mask=padding, need_weights=False
        )
        cells = self.attention_norm(cells + self.dropout(seen))
        return self.feedforward_norm(cells + self.dropout(self.feedforward(cells)))


class MapEncoder(nn.Module):
    """Encoder layers; positions are weighed by what a cell holds before each of them.

    Source:
        DAB-DETR (arXiv:2201.12329), sec. 4; its ``query_scale`` is shared by all layers.
    """

    def __init__(
        self, *, layers: int, width: int, heads: int, feedforward: int, dropout: float
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(width, heads, feedforward, dropout) for _ in range(layers)
        )
        self.query_scale = Mlp(width, width, width)
        xavier_uniform(self)

    def forward(
        self,
        cells: Float[Tensor, "B T d"],
        positions: Float[Tensor, "B T d"],
        padding: Bool[Tensor, "B T"] | None,
    ) -> Float[Tensor, "B T d"]:
        """Encode flattened maps.

        Args:
            cells: Projected map, row by row.
            positions: From :func:`~.positions.map_positions`.
            padding: Cells that are no part of their image; ``None`` if all are.
        """
        for layer in self.layers:
            cells = layer(cells, positions * self.query_scale(cells), padding)
        return cells


def xavier_uniform(module: nn.Module) -> None:
    """Fill all weight matrices; vectors keep what their modules gave them.

    Source:
        DETR (arXiv:2005.12872), sec. 4, technical details.
    """
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
