import pytest
import torch
import torchvision

from regionclip.regions import roi_align
from regionclip.regions.roi_align import (
    _pool_in_one_batch,
    pool_with_weights,
    roi_align_whole,
    roi_weights,
)

MAP_HW = (9, 13)
SCALE = 1 / 16


def random_map(batch: int = 1, channels: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, channels, *MAP_HW, generator=generator)


def ours(feature_map: torch.Tensor, boxes: torch.Tensor, num_bins: int = 6) -> torch.Tensor:
    index = torch.zeros(len(boxes), dtype=torch.long)
    return roi_align(feature_map, boxes, index, num_bins=num_bins, spatial_scale=SCALE)


def theirs(feature_map: torch.Tensor, boxes: torch.Tensor, num_bins: int = 6) -> torch.Tensor:
    return torchvision.ops.roi_align(
        feature_map, [boxes], num_bins, SCALE, sampling_ratio=-1, aligned=True
    )


@pytest.mark.parametrize(
    "box",
    [
        [40.0, 30.0, 120.0, 110.0],
        [0.0, 0.0, 208.0, 144.0],
        [3.7, 5.1, 9.9, 8.2],
        [180.0, 20.0, 208.0, 60.0],
        [20.0, 120.0, 60.0, 144.0],
        [190.0, 130.0, 240.0, 170.0],
        [-30.0, -20.0, 40.0, 50.0],
        [300.0, 300.0, 320.0, 330.0],
        [10.0, 70.0, 205.0, 74.0],
    ],
    ids=[
        "inside",
        "whole image",
        "smaller than a cell",
        "at the right border",
        "at the bottom border",
        "over the right and bottom borders",
        "over the left and top borders",
        "outside",
        "wide and flat",
    ],
)
def test_roi_align_equals_torchvision(box: list[float]) -> None:
    feature_map, boxes = random_map(), torch.tensor([box])
    torch.testing.assert_close(ours(feature_map, boxes), theirs(feature_map, boxes))


def test_roi_align_equals_torchvision_on_many_boxes_of_many_images() -> None:
    generator = torch.Generator().manual_seed(1)
    feature_map = random_map(batch=3)
    corner = torch.rand(60, 2, generator=generator) * torch.tensor([180.0, 120.0])
    side = torch.rand(60, 2, generator=generator) * 100 + 1
    boxes, index = torch.cat([corner, corner + side], dim=1), torch.arange(60) // 20
    rows = torch.cat([index[:, None].float(), boxes], dim=1)
    expected = torchvision.ops.roi_align(feature_map, rows, 7, SCALE, -1, True)
    found = roi_align(feature_map, boxes, index, num_bins=7, spatial_scale=SCALE)
    torch.testing.assert_close(found, expected)


SEVERAL = torch.tensor(
    [[10.0, 10, 90, 60], [0.0, 0, 208, 144], [-30.0, -20, 40, 50], [300.0, 300, 320, 330]]
)


def test_gradients_equal_torchvisions() -> None:
    found, expected = random_map().requires_grad_(), random_map().requires_grad_()
    ours(found, SEVERAL).square().sum().backward()
    theirs(expected, SEVERAL).square().sum().backward()
    torch.testing.assert_close(found.grad, expected.grad)


def test_the_way_of_gpus_has_the_same_result_and_gradients() -> None:
    weights = roi_weights(SEVERAL, MAP_HW, num_bins=6, spatial_scale=SCALE)
    one, other = (random_map()[0].permute(1, 2, 0).requires_grad_() for _ in range(2))
    expected, found = pool_with_weights(one, weights), _pool_in_one_batch(other, weights)
    torch.testing.assert_close(found.permute(0, 3, 1, 2), expected)
    expected.square().sum().backward()
    found.square().sum().backward()
    torch.testing.assert_close(other.grad, one.grad)


def test_gradients_of_a_half_precision_map_are_summed_in_single() -> None:
    # 4096 boxes on one cell: in bfloat16, a sum of ones ends at 256
    one = torch.ones(2, 2, 1, dtype=torch.bfloat16, requires_grad=True)
    boxes = torch.tensor([[0.0, 0, 32, 32]]).repeat(4096, 1)
    weights = roi_weights(boxes, (2, 2), num_bins=1, spatial_scale=SCALE)
    pool_with_weights(one, weights).sum().backward()
    assert one.grad is not None
    assert one.grad.dtype == torch.bfloat16
    assert one.grad.float().sum().item() == pytest.approx(4096)


def test_no_boxes_leave_a_gradient_of_zero() -> None:
    feature_map = random_map().requires_grad_()
    ours(feature_map, torch.zeros(0, 4)).sum().backward()
    assert feature_map.grad is not None
    assert feature_map.grad.abs().max() == 0


@pytest.mark.parametrize("size", [(4, 4), (6, 9)])
def test_whole_maps_equal_a_box_around_each(size: tuple[int, int]) -> None:
    maps = torch.randn(3, 5, *size)
    box = torch.tensor([[0.0, 0.0, size[1] / SCALE, size[0] / SCALE]])
    expected = torch.cat([theirs(each[None], box) for each in maps])
    torch.testing.assert_close(roi_align_whole(maps, num_bins=6), expected)


def test_a_constant_map_gives_its_constant() -> None:
    boxes = torch.tensor([[16.0, 16.0, 90.0, 60.0]])
    found = ours(torch.full((1, 2, *MAP_HW), 3.0), boxes)
    torch.testing.assert_close(found, torch.full_like(found, 3.0))


def test_a_box_of_one_bin_averages_the_cells_that_it_covers() -> None:
    # cells 1..2 of both axes, sampled at their centres: the mean of four cells
    feature_map = torch.arange(9 * 13, dtype=torch.float32).reshape(1, 1, *MAP_HW)
    found = ours(feature_map, torch.tensor([[16.0, 16.0, 48.0, 48.0]]), num_bins=1)
    assert found.item() == pytest.approx((14 + 15 + 27 + 28) / 4)


def test_zero_boxes_give_zero_rows() -> None:
    assert ours(random_map(), torch.zeros(0, 4)).shape == (0, 5, 6, 6)


def test_an_empty_box_is_zero_not_nan() -> None:
    found = ours(random_map(), torch.tensor([[30.0, 30.0, 30.0, 30.0]]))
    assert torch.equal(found, torch.zeros_like(found))


def test_halved_weights_equal_average_pooling_afterwards() -> None:
    channels_last = random_map()[0].permute(1, 2, 0).contiguous()
    boxes = torch.tensor([[10.0, 12.0, 150.0, 100.0], [180.0, 100.0, 230.0, 150.0]])
    weights = roi_weights(boxes, MAP_HW, num_bins=6, spatial_scale=SCALE)
    pooled = torch.nn.functional.avg_pool2d(pool_with_weights(channels_last, weights), 2)
    torch.testing.assert_close(pool_with_weights(channels_last, weights.halved()), pooled)


def test_weights_sum_to_one_inside_the_map_and_to_less_outside() -> None:
    boxes = torch.tensor([[16.0, 16.0, 90.0, 60.0], [150.0, 16.0, 300.0, 60.0]])
    weights = roi_weights(boxes, MAP_HW, num_bins=4, spatial_scale=SCALE)
    torch.testing.assert_close(weights.columns[0].sum(dim=1), torch.ones(4))
    assert weights.columns[1].sum(dim=1)[-1] < 1
