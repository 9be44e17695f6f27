import pytest
import torch

from regionclip.detections.box_coder import encode_boxes
from regionclip.losses import box_l1_loss

WEIGHTS = (10.0, 10.0, 5.0, 5.0)
REGIONS = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 20, 10]])
OBJECTS = torch.tensor([[1.0, 0, 11, 10], [0.0, 0, 20, 10]])


def test_offsets_cost_their_distance_over_all_sampled_regions() -> None:
    # the first object is a tenth of the width to the right: an offset of 10 * 0.1
    loss = box_l1_loss(torch.zeros(2, 4), REGIONS, OBJECTS, num_sampled=8, weights=WEIGHTS)
    assert loss.total.item() == pytest.approx(1.0)
    assert loss.count.item() == 8.0
    assert loss.mean().item() == pytest.approx(1 / 8)


def test_small_distances_are_not_smoothed() -> None:
    deltas = torch.tensor([[1.0 + 1e-3, 0, 0, 0], [0.0, 0, 0, -1e-3]])
    loss = box_l1_loss(deltas, REGIONS, OBJECTS, num_sampled=2, weights=WEIGHTS)
    assert loss.total.item() == pytest.approx(2e-3, rel=1e-3)


def test_perfect_offsets_cost_nothing() -> None:
    deltas = encode_boxes(OBJECTS, REGIONS, weights=WEIGHTS)
    loss = box_l1_loss(deltas, REGIONS, OBJECTS, num_sampled=2, weights=WEIGHTS)
    assert loss.total.item() == 0.0


@pytest.mark.parametrize("num_sampled", [0, 5])
def test_no_regions_on_objects_cost_nothing_and_have_a_gradient(num_sampled: int) -> None:
    deltas = torch.zeros(0, 4, requires_grad=True)
    none = torch.zeros(0, 4)
    loss = box_l1_loss(deltas, none, none, num_sampled=num_sampled, weights=WEIGHTS)
    loss.mean().backward()
    assert loss.mean().item() == 0.0
    assert deltas.grad is not None
