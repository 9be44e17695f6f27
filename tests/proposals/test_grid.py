import pytest
import torch

from regionclip.proposals.grid import SlidingGrid
from regionclip.proposals.proposer import Proposer
from regionclip.structures import PreparedImage


def image(height: int, width: int) -> PreparedImage:
    return PreparedImage(torch.zeros(3, height, width), (height, width), "a")


def test_a_grid_is_a_proposer() -> None:
    assert isinstance(SlidingGrid(), Proposer)
    assert SlidingGrid().propose([]) == []


def test_a_small_grid_worked_out_by_hand() -> None:
    grid = SlidingGrid(sizes=(0.5,), aspect_ratios=(1.0,), step=1.0)
    (proposals,) = grid.propose([image(4, 6)])
    assert proposals.boxes.tolist() == [
        [0, 0, 6, 4],
        [0, 0, 2, 2],
        [2, 0, 4, 2],
        [4, 0, 6, 2],
        [0, 2, 2, 4],
        [2, 2, 4, 4],
        [4, 2, 6, 4],
    ]
    assert proposals.objectness is None


def test_the_ratio_is_height_over_width() -> None:
    grid = SlidingGrid(sizes=(0.5,), aspect_ratios=(4.0,), step=1.0)
    boxes = grid.propose([image(100, 100)])[0].boxes[1:]
    sides = boxes[:, 2:] - boxes[:, :2]
    torch.testing.assert_close(sides, torch.tensor([[25.0, 100.0]]).expand(len(sides), 2))


@pytest.mark.parametrize("size_hw", [(97, 203), (203, 97), (1, 1), (3, 500)])
def test_boxes_stay_inside_and_cover_the_image(size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    boxes = SlidingGrid().propose([image(height, width)])[0].boxes[1:]
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2] <= width).all()
    assert (boxes[:, 3] <= height).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    for y, x in [(0.0, 0.0), (height, width), (height / 2, width / 2), (0.3 * height, width)]:
        covers = (boxes[:, 0] <= x) & (x <= boxes[:, 2]) & (boxes[:, 1] <= y) & (y <= boxes[:, 3])
        assert covers.any()


def test_the_default_grid_is_of_the_size_that_is_documented() -> None:
    assert len(SlidingGrid().propose([image(800, 800)])[0]) == pytest.approx(350, abs=10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": (0.5, 0.0)}, r"sizes must be positive, got \(0.5, 0.0\)"),
        ({"aspect_ratios": (-1.0,)}, "aspect_ratios must be positive"),
        ({"step": 0.0}, r"step must be in \(0, 1\], got 0.0"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SlidingGrid(**options)
