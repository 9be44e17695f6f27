import math

import pytest
import torch
from torch import Tensor, nn

from regionclip.methods.cora.decoder import BoxDecoder, Memory, inverse_sigmoid
from regionclip.methods.cora.encoder import MapEncoder
from regionclip.methods.cora.mlp import Mlp

SIZES = {"layers": 3, "width": 32, "heads": 2, "feedforward": 24, "dropout": 0.0}


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def moving_decoder() -> BoxDecoder:
    """Unlike a new one's, its boxes leave their anchors."""
    torch.manual_seed(0)
    decoder = BoxDecoder(**SIZES)
    for head in decoder.box_heads:
        nn.init.normal_(head.get_submodule("layers.2").get_parameter("weight"), std=0.3)
    return decoder


def memory(batch: int = 2, cells: int = 12, *, num_padding: int = 0) -> Memory:
    padding = None
    if num_padding:
        padding = torch.zeros(batch, cells, dtype=torch.bool)
        padding[:, cells - num_padding :] = True
    return Memory(seeded(batch, cells, 32, seed=1), seeded(batch, cells, 32, seed=2), padding)


def test_a_network_of_one_layer_is_that_layer_and_of_two_has_a_relu() -> None:
    single, double = Mlp(3, 2), Mlp(2, 2, 1)
    x = seeded(5, 3)
    assert torch.equal(single(x), single.layers[0](x))
    for layer, weight in zip(double.layers, ([[1.0, 0], [0, 1]], [[1.0, 1]]), strict=True):
        layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.zeros(len(weight))})
    assert double(torch.tensor([[-3.0, 2.0]])).tolist() == [[2.0]]


def test_cells_of_the_padding_change_nothing_in_the_image() -> None:
    torch.manual_seed(0)
    encoder = MapEncoder(**SIZES).eval()
    own = memory(num_padding=4)
    other = own.cells.clone()
    other[:, 8:] = 100.0
    first, second = (encoder(each, own.positions, own.padding) for each in (own.cells, other))
    torch.testing.assert_close(first[:, :8], second[:, :8])
    alone = encoder(own.cells[:, :8], own.positions[:, :8], None)
    torch.testing.assert_close(first[:, :8], alone, rtol=1e-4, atol=1e-5)


def test_a_new_decoder_leaves_every_anchor_where_it_is() -> None:
    anchors = seeded(2, 5, 4)
    found = BoxDecoder(**SIZES)(seeded(2, 5, 32), anchors, memory())
    assert found.boxes.shape == (3, 2, 5, 4)
    torch.testing.assert_close(found.boxes, anchors.sigmoid().expand(3, -1, -1, -1))
    torch.testing.assert_close(found.references, found.boxes)


def test_the_order_of_the_queries_does_not_matter() -> None:
    decoder, order = moving_decoder(), torch.randperm(6, generator=torch.Generator().manual_seed(3))
    content, anchors = seeded(2, 6, 32), seeded(2, 6, 4, seed=5)
    found = decoder(content, anchors, memory())
    moved = decoder(content[:, order], anchors[:, order], memory())
    torch.testing.assert_close(moved.boxes, found.boxes[:, :, order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(moved.hidden, found.hidden[:, :, order], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_padding", [0, 3])
def test_queries_of_several_copies_of_the_images_share_their_memory(num_padding: int) -> None:
    decoder, shared = moving_decoder(), memory(num_padding=num_padding)
    content, anchors = seeded(4, 6, 32), seeded(4, 6, 4, seed=5)
    together = decoder(content, anchors, shared)
    for rows in (slice(0, 2), slice(2, 4)):
        alone = decoder(content[rows], anchors[rows], shared)
        torch.testing.assert_close(together.boxes[:, rows], alone.boxes, rtol=1e-4, atol=1e-5)


def test_padding_is_not_looked_at() -> None:
    decoder, padded = moving_decoder(), memory(num_padding=3)
    content, anchors = seeded(2, 6, 32), seeded(2, 6, 4, seed=5)
    cut = Memory(padded.cells[:, :9], padded.positions[:, :9], None)
    found = decoder(content, anchors, padded)
    torch.testing.assert_close(
        found.boxes, decoder(content, anchors, cut).boxes, rtol=1e-4, atol=1e-5
    )


def test_a_box_head_learns_from_its_own_layer_and_the_next_only() -> None:
    decoder = moving_decoder()
    for layer, learned in ((0, [True, False, False]), (1, [True, True, False]), (2, [0, 1, 1])):
        decoder.zero_grad()
        found = decoder(seeded(1, 5, 32), seeded(1, 5, 4, seed=5), memory(1))
        found.boxes[layer].sum().backward()
        weights = [
            head.get_submodule("layers.0").get_parameter("weight").grad
            for head in decoder.box_heads
        ]
        moved = [grad is not None and bool(grad.abs().sum() > 0) for grad in weights]
        assert moved == [bool(each) for each in learned]


def test_no_queries_give_no_boxes() -> None:
    found = moving_decoder()(torch.zeros(2, 0, 32), torch.zeros(2, 0, 4), memory())
    assert found.boxes.shape == (3, 2, 0, 4)


def test_the_logit_stops_short_of_certainty() -> None:
    found = inverse_sigmoid(torch.tensor([0.5, 0.75, 0.0, 1.0, 1.5]), 1e-3)
    # both the number and its rest to one are at least 1e-3
    expected = torch.tensor([0.0, math.log(3), math.log(1e-3), math.log(1e3), math.log(1e3)])
    torch.testing.assert_close(found, expected)
