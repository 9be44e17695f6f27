import math

import pytest
import torch

from regionclip.detections.box_coder import (
    clip_boxes,
    decode_boxes,
    encode_boxes,
    nonempty,
    of_areas,
)

UNIT = (1.0, 1.0, 1.0, 1.0)
HEAD = (10.0, 10.0, 5.0, 5.0)


def some_boxes(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = 100 * torch.rand(count, 2, generator=generator)
    return torch.cat([corners, corners + 5 + 50 * torch.rand(count, 2, generator=generator)], dim=1)


def test_zero_offsets_leave_boxes_alone() -> None:
    boxes = some_boxes(5)
    torch.testing.assert_close(decode_boxes(torch.zeros(5, 4), boxes, weights=UNIT), boxes)


def test_decoding_matches_a_case_worked_out_by_hand() -> None:
    # 40 wide, 20 high, centre (30, 50). dx = 5 / 10 of 40: 20 right. dy = -10 / 10 of 20: 20 up.
    # dw = 5 ln 2 / 5: twice as wide. dh = -5 ln 2 / 5: half as high. Centre (50, 30), 80 x 10.
    box = torch.tensor([[10.0, 40, 50, 60]])
    deltas = torch.tensor([[5.0, -10, 5 * math.log(2), -5 * math.log(2)]])
    expected = torch.tensor([[10.0, 25, 90, 35]])
    torch.testing.assert_close(decode_boxes(deltas, box, weights=HEAD), expected)


def test_a_box_grows_62_and_a_half_times_at_most() -> None:
    decoded = decode_boxes(
        torch.tensor([[0.0, 0, 100, 5]]), torch.tensor([[0.0, 0, 2, 2]]), weights=UNIT
    )
    torch.testing.assert_close(decoded[0, 2] - decoded[0, 0], torch.tensor(125.0))
    torch.testing.assert_close(decoded[0, 3] - decoded[0, 1], torch.tensor(125.0))


@pytest.mark.parametrize("weights", [UNIT, HEAD])
def test_decoding_undoes_encoding(weights: tuple[float, float, float, float]) -> None:
    boxes, targets = some_boxes(20), some_boxes(20, seed=1)
    deltas = encode_boxes(targets, boxes, weights=weights)
    torch.testing.assert_close(decode_boxes(deltas, boxes, weights=weights), targets)


def test_offsets_do_not_change_when_both_boxes_are_moved_and_scaled() -> None:
    boxes, targets = some_boxes(20), some_boxes(20, seed=1)
    deltas = encode_boxes(targets, boxes, weights=HEAD)
    moved = encode_boxes(3 * targets + 7, 3 * boxes + 7, weights=HEAD)
    torch.testing.assert_close(moved, deltas, rtol=1e-4, atol=1e-4)


def test_clipping_moves_corners_onto_the_border() -> None:
    boxes = torch.tensor([[-5.0, -6, 70, 50], [10, 20, 30, 40], [80, 90, 95, 99]])
    expected = torch.tensor([[0.0, 0, 60, 40], [10, 20, 30, 40], [60, 40, 60, 40]])
    assert clip_boxes(boxes, (40, 60)).equal(expected)


def test_an_empty_box_has_a_side_that_is_not_positive() -> None:
    boxes = torch.tensor(
        [[0.0, 0, 1, 1], [3, 3, 3, 9], [5, 5, 4, 9], [math.nan, 0, 1, 1], [0, 0, 9, 0]]
    )
    assert nonempty(boxes).tolist() == [True, False, False, False, False]
    assert not nonempty(boxes, min_side=1.0).any()


def test_boxes_of_areas_within_both_bounds_are_told() -> None:
    sides = torch.tensor([[2.0, 2], [1, 4], [1, 3.9], [3, 3], [2, 4.6], [-2, -3], [math.nan, 2]])
    boxes = torch.cat([torch.ones(7, 2), 1 + sides], dim=1)
    kept = of_areas(boxes, smallest_side=2, largest_side=3)
    assert kept.tolist() == [True, True, False, True, False, False, False]


def test_no_boxes_give_no_boxes() -> None:
    none = torch.zeros(0, 4)
    assert decode_boxes(none, none, weights=HEAD).shape == (0, 4)
    assert encode_boxes(none, none, weights=HEAD).shape == (0, 4)
    assert clip_boxes(none, (4, 5)).shape == (0, 4)
    assert nonempty(none).shape == (0,)
    assert of_areas(none, smallest_side=1, largest_side=2).shape == (0,)
