import pytest
import torch
from torch import Tensor

from regionclip.proposals.centernet import (
    CenterHead,
    CenterLevel,
    CenterSelection,
    boxes_around,
    cell_points,
    select_centers,
)

SIZE = (32, 32)


def level(logits: list[float], distances: list[list[float]], stride: int = 16) -> CenterLevel:
    points = cell_points(torch.zeros(1, 1, 2, len(logits) // 2), stride=stride)
    return CenterLevel(torch.tensor([logits]), torch.tensor([distances]), points, stride)


def test_cells_lie_in_rows_and_boxes_reach_around_their_middles() -> None:
    points = cell_points(torch.zeros(1, 1, 2, 3), stride=8)
    assert points.tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]
    boxes = boxes_around(points[:2], torch.tensor([[1.0, 2, 3, 4], [0, 0, 0, 5]]))
    torch.testing.assert_close(boxes, torch.tensor([[3.0, 2, 7, 8], [12, 4, 12.01, 9]]))


def test_the_best_of_each_level_stay_and_lower_boxes_on_them_go() -> None:
    near = [[8.0] * 4] * 4
    first = level([2.0, 1.0, -1.0, 0.0], near)
    second = level([3.0, -2.0, -3.0, -4.0], near)
    [found] = select_centers([first, second], SIZE, CenterSelection())
    assert found.objectness is not None
    # each box of the first level lies on one of the second, which is better in the first cell only
    assert found.objectness.tolist() == [3.0, 1.0, 0.0, -1.0]
    fewer = CenterSelection(pre_nms_topk=2, post_nms_topk=3, nms_iou=1.0)
    [found] = select_centers([first, second], SIZE, fewer)
    assert found.objectness is not None
    assert found.objectness.tolist() == [3.0, 2.0, 1.0]


def test_boxes_may_leave_the_image_but_not_wholly() -> None:
    far = [[100.0] * 4, [0.0] * 4, [0.0] * 4, [0.0] * 4]
    [found] = select_centers([level([1.0, 0.0, 0.0, 0.0], far)], (16, 16), CenterSelection())
    # the image is one cell; the others' middles are in its padding
    torch.testing.assert_close(found.boxes, torch.tensor([[-92.0, -92, 108, 108]]))
    nothing = level([torch.nan] * 4, far)
    [found] = select_centers([nothing], SIZE, CenterSelection())
    assert len(found) == 0


def test_a_new_head_finds_no_centre_likely_and_gives_distances_that_learn() -> None:
    torch.manual_seed(0)
    head = CenterHead(32, (8, 16))
    maps: list[Tensor] = [torch.randn(2, 32, 4, 6), torch.randn(2, 32, 2, 3)]
    fine, coarse = head(maps)
    assert fine.logits.shape == (2, 24)
    assert coarse.distances.shape == (2, 6, 4)
    assert (fine.logits.sigmoid() < 0.05).all()
    assert (fine.distances > 8).all()
    with torch.no_grad():
        head.scales[1].fill_(2.0)
    torch.testing.assert_close(head(maps)[1].distances, 2 * coarse.distances)
    torch.testing.assert_close(head(maps)[0].distances, fine.distances)


def test_selections_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"nms_iou must be in \(0, 1\], got 0.0"):
        CenterSelection(nms_iou=0.0)
    with pytest.raises(ValueError, match="must be at least 1, got 4000 and 0"):
        CenterSelection(post_nms_topk=0)
