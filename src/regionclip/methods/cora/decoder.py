"""Anchors become boxes: a DAB-DETR decoder, whose queries are boxes with a class's content."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from .encoder import FeedForward, xavier_uniform
from .mlp import Mlp
from .positions import box_positions

REFINE_EPS = 1e-3
"""Boxes that go to the next layer stay this far from 0 and 1; tgxs002/CORA@c334a6d."""
PREDICT_EPS = 1e-5
"""The same where boxes are predicted."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Encoded maps, flattened; images may be fewer than those that the queries are of.

    Attributes:
        cells: Output of the map encoder.
        positions: Where the cells are.
        padding: Cells that are no part of their image; ``None`` if all are.
    """

    cells: Float[Tensor, "B T d"]
    positions: Float[Tensor, "B T d"]
    padding: Bool[Tensor, "B T"] | None


class SelfAttention(nn.Module):
    """Queries look at each other, of whatever classes they are."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query_content = nn.Linear(width, width)
        self.query_position = nn.Linear(width, width)
        self.key_content = nn.Linear(width, width)
        self.key_position = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(
        self, queries: Float[Tensor, "B Q d"], positions: Float[Tensor, "B Q d"]
    ) -> Float[Tensor, "B Q d"]:
        """What each query saw."""
        query = self.query_content(queries) + self.query_position(positions)
        key = self.key_content(queries) + self.key_position(positions)
        value = self.value(queries)
        parts = (_by_head(each, self.heads) for each in (query, key, value))
        share = self.dropout if self.training else 0.0
        return self.out(_joined(F.scaled_dot_product_attention(*parts, dropout_p=share)))


class CrossAttention(nn.Module):
    """Queries look at the map: by content, and by how near a cell is to the box's centre.

    Source:
        Conditional DETR (arXiv:2108.06152), sec. 3.2: content and position are concatenated, not
        added; in the first layer only, positions are added to the content as well.
    """

    def __init__(self, width: int, heads: int, dropout: float, *, is_first: bool) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query_content = nn.Linear(width, width)
        self.query_position = nn.Linear(width, width) if is_first else None
        self.query_sine = nn.Linear(width, width)
        self.key_content = nn.Linear(width, width)
        self.key_position = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        queries: Float[Tensor, "B Q d"],
        positions: Float[Tensor, "B Q d"],
        sine: Float[Tensor, "B Q d"],
        memory: Memory,
    ) -> Float[Tensor, "B Q d"]:
        """What each query saw.

        Args:
            queries: Their content.
            positions: Their boxes, encoded.
            sine: Their boxes' centres as waves.
            memory: If the queries are of ``n`` times as many images, theirs are the memory's in
                order, ``n`` times over.
        """
        query, key = self.query_content(queries), self.key_content(memory.cells)
        key_position = self.key_position(memory.positions)
        if self.query_position is not None:
            query = query + self.query_position(positions)
            key = key + key_position
        query = _by_head_pairs(query, self.query_sine(sine), self.heads)
        key = _by_head_pairs(key, key_position, self.heads)
        value = _by_head(self.value(memory.cells), self.heads)
        is_seen = None if memory.padding is None else ~memory.padding[:, None, None]
        copies = len(queries) // len(key)
        if copies > 1:
            key, value = (each.repeat(copies, 1, 1, 1) for each in (key, value))
            is_seen = None if is_seen is None else is_seen.repeat(copies, 1, 1, 1)
        share = self.dropout if self.training else 0.0
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=is_seen, dropout_p=share)
        return self.out(_joined(seen))


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention, feed-forward; each added to its input, then normalised."""

    def __init__(
        self, width: int, heads: int, feedforward: int, dropout: float, *, is_first: bool
    ) -> None:
        super().__init__()
        self.self_attention = SelfAttention(width, heads, dropout)
        self.self_norm = nn.LayerNorm(width)
        self.cross_attention = CrossAttention(width, heads, dropout, is_first=is_first)
        self.cross_norm = nn.LayerNorm(width)
        self.feedforward = FeedForward(width, feedforward, dropout)
        self.feedforward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        queries: Float[Tensor, "B Q d"],
        positions: Float[Tensor, "B Q d"],
        sine: Float[Tensor, "B Q d"],
        memory: Memory,
    ) -> Float[Tensor, "B Q d"]:
        """The queries' new content; arguments as :meth:`CrossAttention.forward`."""
        seen = self.self_attention(queries, positions)
        queries = self.self_norm(queries + self.dropout(seen))
        seen = self.cross_attention(queries, positions, sine, memory)
        queries = self.cross_norm(queries + self.dropout(seen))
        return self.feedforward_norm(queries + self.dropout(self.feedforward(queries)))


@dataclass(frozen=True, slots=True)
class DecodedQueries:
    """What each decoder layer makes of the queries.

    Attributes:
        hidden: Normalised content after each of the ``L`` layers.
        references: The box that each layer began with, ``cxcywh``, normalised; its gradient is
            the one of the layer before.
        boxes: What each layer predicts, ``cxcywh``, normalised.
    """

    hidden: Float[Tensor, "L B Q d"]
    references: Float[Tensor, "L B Q 4"]
    boxes: Float[Tensor, "L B Q 4"]


class BoxDecoder(nn.Module):
    """Decoder layers that each move the boxes they were given.

    Attributes:
        box_heads: One per layer. Each is asked twice: of the layer's output, for the next layer's
            box, and of the normalised output, for the box that the layer predicts.

    Source:
        DAB-DETR (arXiv:2201.12329), sec. 4; tgxs002/CORA@c334a6d.
    """

    def __init__(
        self, *, layers: int, width: int, heads: int, feedforward: int, dropout: float
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(width, heads, feedforward, dropout, is_first=number == 0)
            for number in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.query_scale = Mlp(width, width, width)
        self.ref_point_head = Mlp(2 * width, width, width)
        self.ref_anchor_head = Mlp(width, width, 2)
        xavier_uniform(self)
        self.box_heads = _equal_box_heads(layers, width)

    def forward(
        self, content: Float[Tensor, "B Q d"], anchors: Float[Tensor, "B Q 4"], memory: Memory
    ) -> DecodedQueries:
        """Move anchors to what lies under them.

        Args:
            content: What each query looks for.
            anchors: Where it begins, ``cxcywh`` before the sigmoid.
            memory: See :meth:`CrossAttention.forward`.
        """
        output, reference = content, anchors.sigmoid()
        references, hidden, boxes = [reference], [], []
        for number, (layer, box_head) in enumerate(zip(self.layers, self.box_heads, strict=True)):
            box = references[-1].detach() if number else reference
            waves = box_positions(box, channels=2 * content.shape[-1])
            sine = self._modulated(waves[..., : content.shape[-1]], box, output, number)
            output = layer(output, self.ref_point_head(waves), sine, memory)
            hidden.append(self.norm(output))
            boxes.append(_moved(references[-1], box_head(hidden[-1]), PREDICT_EPS))
            if number + 1 < len(self.layers):
                references.append(_moved(box, box_head(output), REFINE_EPS))
        return DecodedQueries(torch.stack(hidden), torch.stack(references), torch.stack(boxes))

    def _modulated(self, sine: Tensor, box: Tensor, output: Tensor, number: int) -> Tensor:
        """Waves of the centres, weighed by content and stretched by how large the boxes are.

        Source:
            DAB-DETR (arXiv:2201.12329), sec. 4, width and height-modulated attention.
        """
        if number:
            sine = sine * self.query_scale(output)
        width, height = box[..., 2:3], box[..., 3:4]
        wanted_width, wanted_height = self.ref_anchor_head(output).sigmoid().split(1, dim=-1)
        y, x = sine.chunk(2, dim=-1)
        return torch.cat([y * (wanted_height / height), x * (wanted_width / width)], dim=-1)


def inverse_sigmoid(x: Tensor, eps: float) -> Tensor:
    """Logit of numbers in [0, 1], of each and of its rest to one at least ``eps``.

    Number and rest are kept from 0 apart, as upstream; ``torch.logit`` takes the rest of what was
    kept, which differs near 0 and 1.
    """
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))


def _moved(box: Tensor, offset: Tensor, eps: float) -> Tensor:
    return (inverse_sigmoid(box, eps) + offset).sigmoid()


def _equal_box_heads(layers: int, width: int) -> nn.ModuleList:
    """Heads that begin alike and leave the anchors where they are."""
    heads = nn.ModuleList(Mlp(width, width, width, 4) for _ in range(layers))
    last = heads[0].get_submodule("layers.2")
    nn.init.zeros_(last.get_parameter("weight"))
    nn.init.zeros_(last.get_parameter("bias"))
    for head in heads:
        head.load_state_dict(heads[0].state_dict())
    return heads


def _by_head(x: Tensor, heads: int) -> Tensor:
    """``(B, N, d)`` to ``(B, heads, N, d / heads)``."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _by_head_pairs(content: Tensor, position: Tensor, heads: int) -> Tensor:
    return torch.cat([_by_head(content, heads), _by_head(position, heads)], dim=-1)


def _joined(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)
