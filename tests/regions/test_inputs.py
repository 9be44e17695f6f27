import pytest
import torch

from regionclip.regions.inputs import boxes_input, listed_boxes_input, regions_input
from regionclip.structures import PreparedImage

# an original of 50 x 100 pixels, prepared at twice its size
IMAGE = PreparedImage(torch.zeros(3, 100, 200), (50, 100), "street.jpg")


def test_boxes_scale_with_the_image() -> None:
    found = boxes_input(torch.tensor([[10.0, 5.0, 60.0, 25.0]]), IMAGE)
    assert found.tolist() == [[20.0, 10.0, 120.0, 50.0]]


def test_boxes_are_clipped_to_the_prepared_image() -> None:
    found = boxes_input(torch.tensor([[-10.0, -5.0, 400.0, 300.0]]), IMAGE)
    assert found.tolist() == [[0.0, 0.0, 200.0, 100.0]]


def test_whole_numbers_are_boxes_too() -> None:
    found = boxes_input(torch.tensor([[1, 2, 3, 4]]), IMAGE)
    assert found.dtype == torch.float32
    assert found.tolist() == [[2.0, 4.0, 6.0, 8.0]]


def test_zero_boxes_stay_zero_boxes() -> None:
    assert boxes_input(torch.zeros(0, 4), IMAGE).shape == (0, 4)


@pytest.mark.parametrize("shape", [(4,), (2, 5), (1, 2, 4)])
def test_boxes_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"boxes must be \(R, 4\) in xyxy order, got shape"):
        boxes_input(torch.zeros(shape), IMAGE)


@pytest.mark.parametrize("box", [[0.0, 0.0, float("nan"), 1.0], [5.0, 5.0, 2.0, 9.0]])
def test_boxes_that_are_none_are_refused_by_row(box: list[float]) -> None:
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], box])
    with pytest.raises(ValueError, match=r"xyxy, not xywh\), but box 1 is"):
        boxes_input(boxes, IMAGE)


OUTSIDE = [
    *([101.0, 0, 120, 9], [-50.0, -50, -10, -10], [100.0, 0, 100, 50], [0.0, 50, 9, 90]),
    *([7.0, 7, 7, 7], [7.0, 7, 9, 7]),  # no area wherever they lie
]


@pytest.mark.parametrize("box", OUTSIDE)
def test_a_box_without_area_in_the_image_is_refused_by_row(box: list[float]) -> None:
    boxes = torch.tensor([[99.0, 49.0, 400.0, 400.0], box])
    with pytest.raises(ValueError, match=r"which is 100 pixels wide and 50 high, but box 1 is \["):
        boxes_input(boxes, IMAGE)


def test_boxes_of_a_list_keep_their_rows_and_are_checked_otherwise() -> None:
    found = listed_boxes_input(torch.tensor(OUTSIDE), IMAGE)
    assert found.shape == (6, 4)
    assert ((found[:, 2:] - found[:, :2]).prod(dim=1) == 0).all()
    with pytest.raises(ValueError, match="box 0 is"):
        listed_boxes_input(torch.tensor([[5.0, 5, 2, 9]]), IMAGE)


def test_masks_become_the_boxes_around_them() -> None:
    masks = torch.zeros(1, 50, 100, dtype=torch.bool)
    masks[0, 5:25, 10:60] = True
    boxes, scaled = regions_input(masks, IMAGE)
    assert boxes.tolist() == [[20.0, 10.0, 120.0, 50.0]]
    assert scaled is not None
    assert scaled.shape == (1, 100, 200)
    assert int(scaled.sum()) == 4 * int(masks.sum())


def test_one_pixel_is_a_mask() -> None:
    masks = torch.zeros(1, 50, 100, dtype=torch.bool)
    masks[0, 49, 99] = True
    boxes, _ = regions_input(masks, IMAGE)
    assert boxes.tolist() == [[198.0, 98.0, 200.0, 100.0]]


def test_a_thin_mask_of_a_large_image_is_not_lost() -> None:
    small = PreparedImage(torch.zeros(3, 4, 8), (100, 200), "wall.jpg")
    masks = torch.zeros(2, 100, 200, dtype=torch.bool)
    masks[0, 30:80, 101] = True
    masks[1, :50, :50] = True
    _, found = regions_input(masks, small)
    assert found is not None
    assert found[0].nonzero().tolist() == [[1, 4], [2, 4], [3, 4]]
    assert found[1].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_boxes_have_no_masks() -> None:
    boxes, masks = regions_input(torch.tensor([[10.0, 5.0, 60.0, 25.0]]), IMAGE)
    assert boxes.tolist() == [[20.0, 10.0, 120.0, 50.0]]
    assert masks is None


def test_zero_masks_give_zero_boxes() -> None:
    boxes, masks = regions_input(torch.zeros(0, 50, 100, dtype=torch.bool), IMAGE)
    assert boxes.shape == (0, 4)
    assert masks is not None
    assert len(masks) == 0


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(R, 50, 100\), the size of street.jpg"):
        regions_input(torch.ones(1, 100, 200, dtype=torch.bool), IMAGE)


def test_a_mask_of_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"masks must be bool .* got torch.float32"):
        regions_input(torch.ones(1, 50, 100), IMAGE)


def test_an_empty_mask_is_refused_by_number() -> None:
    masks = torch.ones(2, 50, 100, dtype=torch.bool)
    masks[1] = False
    with pytest.raises(ValueError, match=r"mask 1 of street\.jpg has no pixel"):
        regions_input(masks, IMAGE)
