"""Cells and the objects that they are centres of, and what that costs."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou

from regionclip.losses.centers import CenterLossOptions, center_loss, paired_giou
from regionclip.pairs.centers import CenterTargets, center_targets
from regionclip.proposals.centernet import cell_points

STRIDES = (8, 16, 32, 64, 128)


def points(side: int = 128) -> list[Tensor]:
    return [cell_points(torch.zeros(1, 1, side // s, side // s), stride=s) for s in STRIDES]


def test_an_object_is_the_centre_of_a_cell_of_each_level_for_its_size() -> None:
    # half a diagonal of 70.7: the ranges of the two finest levels have it
    box = torch.tensor([[10.0, 10, 110, 110]])
    own = center_targets(points(), STRIDES, box)
    flat = torch.cat(points())
    assert flat[own.center_rows].tolist() == [[60.0, 60.0], [56.0, 56.0]]
    assert (own.heatmap[own.center_rows] == 1).all()
    assert own.heatmap[16 * 16 + 8 * 8 :].count_nonzero() == 0  # no level of larger objects
    # the 3 by 3 around each centre
    assert len(own.box_rows) == 18
    assert (own.box_targets == 0).all()


def test_heat_falls_off_with_the_distance_from_an_objects_centre() -> None:
    box = torch.tensor([[20.0, 20, 60, 60]])
    own = center_targets(points(), STRIDES, box)
    fine = own.heatmap[:256].reshape(16, 16)
    # the centre (40, 40) lies in the cell of middle (44, 44); its left neighbour's is (36, 44)
    variance = max(2 * (0.2 / 1.8) ** 2 * 40 * 40, 16.0)
    assert fine[5, 5] == 1
    assert float(fine[5, 4]) == pytest.approx(math.exp(-(4**2 + 4**2) / variance), rel=1e-5)
    assert fine[0, 0] == 0


def test_a_cell_learns_the_box_of_the_nearest_of_several_objects() -> None:
    boxes = torch.tensor([[0.0, 0, 40, 40], [16, 0, 56, 40]])
    own = center_targets(points(), STRIDES, boxes)
    flat = torch.cat(points())[own.box_rows]
    target_of = dict(zip(map(tuple, flat.tolist()), own.box_targets.tolist(), strict=True))
    assert target_of[12.0, 20.0] == 0
    assert target_of[44.0, 20.0] == 1


def test_no_object_makes_every_cell_background() -> None:
    own = center_targets(points(), STRIDES, torch.zeros(0, 4))
    assert own.heatmap.count_nonzero() == 0
    assert len(own.center_rows) == len(own.box_rows) == 0


def test_heat_and_boxes_cost_what_they_do_by_hand() -> None:
    targets = CenterTargets(
        torch.tensor([1.0, 0.5, 0.0]), torch.tensor([0]), torch.tensor([0, 1]), torch.tensor([0, 0])
    )
    logits = torch.zeros(1, 3)
    wanted = torch.tensor([[0.0, 0, 10, 10]])
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 5], [5, 5, 6, 6]]])
    loss = center_loss(logits, boxes, [wanted], [targets], options=CenterLossOptions())
    entropy = math.log(2) * 0.25
    assert float(loss.centers.mean()) == pytest.approx(0.5 * 0.25 * entropy)
    others = entropy * (0.5**4 + 1)
    assert float(loss.others.mean()) == pytest.approx(0.5 * 0.75 * others)
    assert float(loss.boxes.mean()) == pytest.approx(0.5 * 0.5 / 1.5)


def test_without_objects_only_heat_is_pushed_down() -> None:
    targets = center_targets(points(), STRIDES, torch.zeros(0, 4))
    count = len(targets.heatmap)
    logits = torch.zeros(1, count, requires_grad=True)
    loss = center_loss(
        logits,
        torch.zeros(1, count, 4),
        [torch.zeros(0, 4)],
        [targets],
        options=CenterLossOptions(),
    )
    assert loss.centers.mean().item() == loss.boxes.mean().item() == 0
    loss.others.mean().backward()
    assert logits.grad is not None
    assert (logits.grad > 0).all()


def test_generalized_overlap_of_pairs_is_torchvisions() -> None:
    torch.manual_seed(0)
    corners = torch.rand(2, 20, 2) * 50
    sizes = torch.rand(2, 20, 2) * 30 + 1
    first, second = torch.cat([corners, corners + sizes], dim=2)
    expected = generalized_box_iou(first, second).diagonal()
    torch.testing.assert_close(paired_giou(first, second), expected)
    assert paired_giou(first[:0], second[:0]).shape == (0,)


def test_negative_weights_are_refused() -> None:
    with pytest.raises(ValueError, match=r"box_weight must not be negative, got -1\.0"):
        CenterLossOptions(box_weight=-1.0)
