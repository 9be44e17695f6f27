import math

import pytest
import torch

from regionclip.losses import region_text_loss


def test_one_region_worked_out_by_hand() -> None:
    # cosines 1 and 0 at temperature 0.5 and a background logit of 0: logits 2, 0, 0
    loss = region_text_loss(
        torch.tensor([[3.0, 0.0]]), torch.eye(2), torch.tensor([0]), temperature=0.5
    )
    assert loss.item() == pytest.approx(math.log(math.exp(2) + 2) - 2)


def test_background_is_the_label_after_the_last_class() -> None:
    # cosines -1 and 0: logits -2, 0 and 0 for background
    loss = region_text_loss(
        torch.tensor([[-1.0, 0.0]]), torch.eye(2), torch.tensor([2]), temperature=0.5
    )
    assert loss.item() == pytest.approx(math.log(math.exp(-2) + 2))


def test_lengths_do_not_matter() -> None:
    features, classes, labels = torch.randn(6, 8), torch.randn(3, 8), torch.arange(6) % 4
    first = region_text_loss(features, classes, labels)
    again = region_text_loss(9 * features, 0.5 * classes, labels)
    assert again.item() == pytest.approx(first.item(), rel=1e-4)


def test_no_regions_cost_nothing_and_have_a_gradient() -> None:
    features = torch.zeros(0, 8, requires_grad=True)
    loss = region_text_loss(features, torch.randn(3, 8), torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0.0
