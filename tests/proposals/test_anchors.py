import pytest
import torch

from regionclip.proposals.anchors import cell_anchors, grid_anchors


def test_cell_anchors_have_sizes_outer_and_height_over_width_inner() -> None:
    anchors = cell_anchors((8.0, 16.0), (0.25, 1.0))
    expected = [[-8, -2, 8, 2], [-4, -4, 4, 4], [-16, -4, 16, 4], [-8, -8, 8, 8]]
    assert anchors.tolist() == expected


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_cell_anchors_keep_their_area_and_are_not_rounded(ratio: float) -> None:
    x0, y0, x1, y1 = cell_anchors((32.0,), (ratio,))[0].tolist()
    assert (x1 - x0) * (y1 - y0) == pytest.approx(32.0**2)
    assert (y1 - y0) / (x1 - x0) == pytest.approx(ratio)


def test_grid_anchors_go_row_by_row_with_all_anchors_of_a_cell_together() -> None:
    cell = torch.tensor([[-1.0, -2.0, 1.0, 2.0], [-3.0, -3.0, 3.0, 3.0]])
    anchors = grid_anchors(cell, (2, 3), stride=10)
    assert anchors.shape == (12, 4)
    assert anchors[0].tolist() == [-1, -2, 1, 2], "the first cell is centred on the corner"
    assert anchors[1].tolist() == [-3, -3, 3, 3]
    assert anchors[2].tolist() == [9, -2, 11, 2], "the next cell is one stride to the right"
    assert anchors[6].tolist() == [-1, 8, 1, 12], "the second row is one stride below"


def test_an_empty_map_has_no_anchors() -> None:
    assert grid_anchors(cell_anchors((8.0,), (1.0,)), (0, 5), stride=4).shape == (0, 4)
