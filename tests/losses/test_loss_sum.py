import pytest
import torch

from regionclip.losses import LossSum
from regionclip.losses.loss_sum import counted, summed


def test_the_mean_is_the_total_over_the_count() -> None:
    loss = LossSum(torch.tensor(3.0), torch.tensor(0.6))
    assert loss.mean().item() == pytest.approx(5.0)


def test_nothing_counted_is_zero_with_a_gradient() -> None:
    rows = torch.zeros(0, requires_grad=True)
    loss = counted(rows.sum(), 0)
    loss.mean().backward()
    assert loss.mean().item() == 0.0
    assert rows.grad is not None


def test_parts_add_up_to_the_whole() -> None:
    rows = torch.tensor([1.0, 2.0, 6.0])
    parts = [counted(rows[:1].sum(), 1), counted(rows[1:].sum(), 2)]
    assert summed(parts).mean().item() == pytest.approx(3.0)
    assert summed(parts[:1]).mean().item() == pytest.approx(1.0)
