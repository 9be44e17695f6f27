import math

import pytest
import torch
from torch.nn import functional as F

from regionclip.losses import concept_contrastive_loss, concept_distillation_loss


def random_logits(regions: int, concepts: int) -> torch.Tensor:
    return 3 * torch.randn(regions, concepts, generator=torch.Generator().manual_seed(1))


def test_a_student_of_the_teachers_opinion_costs_nothing() -> None:
    logits = random_logits(4, 5)
    loss = concept_distillation_loss(logits, logits.softmax(dim=1))
    assert loss.total.item() == pytest.approx(0, abs=1e-5)
    assert loss.count.item() == 4


def test_distillation_worked_out_by_hand() -> None:
    # a teacher that is sure of the first of two, a student that finds both alike: log 2
    loss = concept_distillation_loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
    assert loss.mean().item() == pytest.approx(math.log(2))


def test_distillation_is_torchs_divergence() -> None:
    logits, teacher = random_logits(7, 9), random_logits(7, 9).flip(0).softmax(dim=1)
    expected = F.kl_div(logits.log_softmax(dim=1), teacher, reduction="batchmean")
    loss = concept_distillation_loss(logits, teacher)
    torch.testing.assert_close(loss.mean(), expected)


def test_distillation_of_a_student_that_is_sure_of_another_concept_is_finite() -> None:
    logits = torch.tensor([[0.0, 200.0]], requires_grad=True)
    loss = concept_distillation_loss(logits, torch.tensor([[1.0, 0.0]]))
    loss.total.backward()
    assert loss.total.item() == pytest.approx(200)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([[-1.0, 1.0]]))


def contrastive_as_in_the_paper(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """With the matrix of all regions against all regions' concepts."""
    similarity = logits[:, targets]
    same = (targets[:, None] == targets[None]).float()
    return -(same * similarity.softmax(dim=1)).sum(dim=1).log().mean()


@pytest.mark.parametrize("targets", [[0, 1, 2, 3], [2, 2, 2, 2], [4, 0, 4, 1]])
def test_contrast_is_the_papers(targets: list[int]) -> None:
    logits, labels = random_logits(4, 5), torch.tensor(targets)
    own, papers = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = concept_contrastive_loss(own, labels)
    expected = contrastive_as_in_the_paper(papers, labels)
    torch.testing.assert_close(loss.mean(), expected)
    loss.mean().backward()
    expected.backward()
    torch.testing.assert_close(own.grad, papers.grad)


def test_regions_of_one_concept_have_nothing_to_be_told_apart_from() -> None:
    loss = concept_contrastive_loss(random_logits(3, 4), torch.tensor([1, 1, 1]))
    assert loss.total.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("name", ["distillation", "contrastive"])
def test_no_regions_cost_nothing_and_have_a_gradient(name: str) -> None:
    logits = torch.zeros(0, 4, requires_grad=True)
    if name == "distillation":
        loss = concept_distillation_loss(logits, torch.zeros(0, 4))
    else:
        loss = concept_contrastive_loss(logits, torch.zeros(0, dtype=torch.int64))
    assert loss.mean().item() == 0
    assert loss.count.item() == 0
    loss.total.backward()
    assert logits.grad is not None
