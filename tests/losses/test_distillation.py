import pytest
import torch

from regionclip.losses import cosine_distillation_loss


def test_two_pairs_worked_out_by_hand() -> None:
    student = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    teacher = torch.tensor([[5.0, 0.0], [4.0, 3.0]])
    loss = cosine_distillation_loss(student, teacher)
    assert loss.total.item() == pytest.approx(0 + (1 - 0.6))
    assert loss.count.item() == 2


def test_lengths_do_not_matter_and_the_teacher_learns_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(4, 6, generator=generator, requires_grad=True)
    teacher = torch.randn(4, 6, generator=generator, requires_grad=True)
    loss = cosine_distillation_loss(student, teacher)
    scaled = cosine_distillation_loss(7 * student, 0.1 * teacher)
    torch.testing.assert_close(loss.mean(), scaled.mean())
    loss.total.backward()
    assert teacher.grad is None
    assert student.grad is not None
    # a step against the gradient turns the student towards the teacher
    closer = cosine_distillation_loss(student - 0.1 * student.grad, teacher)
    assert closer.mean() < loss.mean()


def test_no_region_costs_nothing_and_has_a_gradient() -> None:
    nothing = torch.zeros(0, 4, requires_grad=True)
    loss = cosine_distillation_loss(nothing, torch.zeros(0, 4))
    loss.total.backward()
    assert loss.mean().item() == 0
