import torch
from torchvision.ops import roi_align

from regionclip.regions.pyramid_align import pyramid_levels, pyramid_roi_align

STRIDES = (4.0, 8.0, 16.0, 32.0)


def levels(num_images: int = 2) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(num_images, 3, side, side) for side in (64, 32, 16, 8)]


def squares(*sides: float) -> torch.Tensor:
    return torch.tensor([[1.0, 2.0, 1 + side, 2 + side] for side in sides])


def test_levels_by_hand() -> None:
    boxes = squares(0, 10, 111, 113, 224.5, 449, 5000)
    assert pyramid_levels(boxes, num_levels=4).tolist() == [0, 0, 0, 1, 2, 3, 3]
    assert pyramid_levels(boxes[:0], num_levels=4).shape == (0,)


def test_each_box_is_cut_from_its_own_level_in_order() -> None:
    maps, boxes = levels(), squares(230, 20, 120)
    cells = pyramid_roi_align(maps, [boxes[:0], boxes], strides=STRIDES, num_bins=2)
    for row, level in enumerate((2, 0, 1)):
        own = roi_align(
            maps[level][1:], [boxes[row : row + 1]], 2, 1 / STRIDES[level], -1, aligned=True
        )
        torch.testing.assert_close(cells[row], own[0])


def test_gradients_reach_the_levels_that_boxes_are_on() -> None:
    maps = [level.requires_grad_() for level in levels(1)]
    pyramid_roi_align(maps, [squares(20, 120)], strides=STRIDES, num_bins=2).sum().backward()
    assert [level.grad is not None and bool(level.grad.any()) for level in maps] == [
        True,
        True,
        False,
        False,
    ]


def test_no_box_gives_no_cells() -> None:
    none = squares(1)[:0]
    cells = pyramid_roi_align(levels(), [none, none], strides=STRIDES, num_bins=7)
    assert cells.shape == (0, 3, 7, 7)
