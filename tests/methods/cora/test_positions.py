import math

import torch

from regionclip.methods.cora.positions import box_positions, map_positions


def test_cells_are_encoded_by_the_share_at_their_centres() -> None:
    # one row of two cells: centres at 1/2 of the height, and at 1/4 and 3/4 of the width
    found = map_positions(torch.zeros(1, 1, 2, dtype=torch.bool), channels=4)
    row, left, right = [0.0, -1.0], [1.0, 0.0], [-1.0, 0.0]
    expected = torch.tensor([[[[*row, *left], [*row, *right]]]])
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-5)


def test_later_frequencies_fall_by_the_temperature() -> None:
    # the second pair of two has frequency 1 / sqrt(temperature)
    found = map_positions(torch.zeros(1, 2, 1, dtype=torch.bool), channels=8, temperature=16.0)
    angle = 2 * math.pi * 0.25 / 4
    expected = torch.tensor([1.0, 0.0, math.sin(angle), math.cos(angle)])
    torch.testing.assert_close(found[0, 0, 0, :4], expected, rtol=0.0, atol=1e-5)


def test_padding_does_not_move_the_cells_of_the_image() -> None:
    alone = map_positions(torch.zeros(1, 3, 4, dtype=torch.bool), channels=8)
    padding = torch.ones(1, 5, 6, dtype=torch.bool)
    padding[:, :3, :4] = False
    torch.testing.assert_close(map_positions(padding, channels=8)[:, :3, :4], alone)


def test_boxes_are_encoded_in_the_order_y_x_width_height() -> None:
    found = box_positions(torch.tensor([[0.25, 0.5, 0.75, 1.0]]), channels=8)
    expected = torch.tensor([[0.0, -1, 1, 0, -1, 0, 0, 1]])
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-5)
    assert box_positions(torch.zeros(2, 0, 4), channels=16).shape == (2, 0, 16)
