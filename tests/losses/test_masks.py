import math

import pytest
import torch

from regionclip.losses import mask_loss


def test_cells_worked_out_by_hand() -> None:
    # a logit of ln 3 is a probability of 3/4: right for one cell, wrong for the other
    logits = torch.tensor([[[math.log(3.0), math.log(3.0)], [0.0, 0.0]]])
    wanted = torch.tensor([[[True, False], [True, False]]])
    loss = mask_loss(logits, wanted)
    expected = math.log(4 / 3) + math.log(4) + 2 * math.log(2)
    assert loss.total.item() == pytest.approx(expected)
    assert loss.count.item() == 4.0


def test_no_regions_cost_nothing_and_have_a_gradient() -> None:
    logits = torch.zeros(0, 14, 14, requires_grad=True)
    loss = mask_loss(logits, torch.zeros(0, 14, 14, dtype=torch.bool))
    loss.mean().backward()
    assert loss.mean().item() == 0.0
    assert logits.grad is not None
