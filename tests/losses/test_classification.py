import math

import pytest
import torch
from torch.nn import functional as F

from regionclip.losses import LossSum, focal_scaled_cross_entropy, weighted_cross_entropy

# two classes and background; probabilities of the labels are 1/2 and 1/3
LOGITS = torch.tensor([[math.log(2.0), 0.0, 0.0], [0.0, 0.0, 0.0]])
LABELS = torch.tensor([0, 2])


def random_rows(count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, 6, generator=generator) * 3
    return logits, torch.randint(0, 6, (count,), generator=generator)


def test_focal_scaling_worked_out_by_hand() -> None:
    loss = focal_scaled_cross_entropy(LOGITS, LABELS, gamma=0.5, background_weight=0.2)
    expected = math.log(2) * (1 / 2) ** 0.5 + 0.2 * math.log(3) * (2 / 3) ** 0.5
    assert loss.total.item() == pytest.approx(expected)
    assert loss.count.item() == 2.0


def test_weighted_cross_entropy_worked_out_by_hand() -> None:
    loss = weighted_cross_entropy(LOGITS, LABELS, background_weight=0.8)
    assert loss.total.item() == pytest.approx(math.log(2) + 0.8 * math.log(3))
    assert loss.count.item() == pytest.approx(1.8)


def test_weighted_cross_entropy_is_torchs() -> None:
    logits, labels = random_rows()
    weight = torch.tensor([1.0, 1, 1, 1, 1, 0.3])
    expected = F.cross_entropy(logits, labels, weight=weight)
    found = weighted_cross_entropy(logits, labels, background_weight=0.3)
    torch.testing.assert_close(found.mean(), expected)


def test_without_gamma_and_weight_focal_scaling_is_the_cross_entropy() -> None:
    logits, labels = random_rows()
    found = focal_scaled_cross_entropy(logits, labels, gamma=0.0)
    torch.testing.assert_close(found.mean(), F.cross_entropy(logits, labels))


def test_the_means_of_the_two_differ_in_what_they_divide_by() -> None:
    # all background with weight 1/2: the one mean keeps the weight, the other loses it
    logits, labels = torch.zeros(4, 2), torch.ones(4, dtype=torch.int64)
    focal = focal_scaled_cross_entropy(logits, labels, gamma=0.0, background_weight=0.5)
    weighted = weighted_cross_entropy(logits, labels, background_weight=0.5)
    assert focal.mean().item() == pytest.approx(0.5 * math.log(2))
    assert weighted.mean().item() == pytest.approx(math.log(2))


def test_gradients_go_through_the_focal_factor() -> None:
    logits = torch.tensor([[0.7, 0.0]], dtype=torch.float32, requires_grad=True)
    focal_scaled_cross_entropy(logits, torch.tensor([0]), gamma=0.5).total.backward()

    def value(x: float) -> float:
        p = 1 / (1 + math.exp(-x))
        return -math.log(p) * (1 - p) ** 0.5

    slope = (value(0.7 + 1e-5) - value(0.7 - 1e-5)) / 2e-5
    assert logits.grad is not None
    assert logits.grad[0, 0].item() == pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize("lead", [15.0, 17.0, 30.0, 200.0])
def test_a_region_that_is_sure_gives_a_finite_gradient(lead: float) -> None:
    logits = torch.tensor([[lead, 0.0]], requires_grad=True)
    loss = focal_scaled_cross_entropy(logits, torch.tensor([0]), gamma=0.5)
    loss.total.backward()
    assert 0.0 <= loss.total.item() < 1e-5
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_half_precision_logits_are_summed_in_single() -> None:
    logits, labels = random_rows()
    loss = weighted_cross_entropy(logits.bfloat16(), labels)
    assert loss.total.dtype == torch.float32


@pytest.mark.parametrize("kind", ["focal", "weighted"])
def test_no_regions_cost_nothing_and_have_a_gradient(kind: str) -> None:
    logits = torch.zeros(0, 3, requires_grad=True)
    labels = torch.zeros(0, dtype=torch.int64)
    loss: LossSum
    if kind == "focal":
        loss = focal_scaled_cross_entropy(logits, labels, gamma=0.5, background_weight=0.2)
    else:
        loss = weighted_cross_entropy(logits, labels, background_weight=0.8)
    loss.mean().backward()
    assert loss.mean().item() == 0.0
    assert logits.grad is not None
