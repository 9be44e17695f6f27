from contextlib import suppress

import pytest
import torch
from torch import nn

from regionclip.training.averaging import MovingAverage, StartWeights, interpolated_weights


def test_a_moving_average_follows_the_weights_slowly() -> None:
    module = nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(0.0)
    average = MovingAverage(module, 0.9)
    module.weight.data.fill_(1.0)
    average.update()
    average.update()
    with average.in_place():
        assert module.weight.item() == pytest.approx(1 - 0.9**2)
    assert module.weight.item() == 1
    again = MovingAverage(module, 0.9)
    again.load(average.state())
    again.keep()
    assert module.weight.item() == pytest.approx(1 - 0.9**2)


def test_some_parameters_may_be_taken_in_twice_per_step() -> None:
    box, text = nn.Linear(1, 1), nn.Linear(1, 1)
    module = nn.ModuleDict({"box": box, "text": text})
    for own in module.parameters():
        own.data.fill_(0.0)
    average = MovingAverage(module, 0.9, twice=("box.",))
    for own in module.parameters():
        own.data.fill_(1.0)
    average.update()
    average.keep()
    assert box.weight.item() == pytest.approx(1 - 0.9**2)
    assert box.bias.item() == pytest.approx(1 - 0.9**2)
    assert text.weight.item() == pytest.approx(1 - 0.9)


def test_weights_between_start_and_end() -> None:
    start = {"a": torch.tensor([0.0, 2.0]), "new": torch.zeros(3), "count": torch.tensor(1)}
    end = {
        "a": torch.tensor([1.0, 4.0]),
        "new": torch.ones(4),
        "count": torch.tensor(5),
        "only": torch.ones(1),
    }
    mixed = interpolated_weights(start, end, share_of_end=0.25)
    assert mixed["a"].tolist() == [0.25, 2.5]
    assert mixed["new"].tolist() == [1.0] * 4
    assert mixed["count"].item() == 5
    assert mixed["only"].item() == 1
    with pytest.raises(ValueError, match="share_of_end must be in"):
        interpolated_weights(start, end, share_of_end=1.5)


def test_start_weights_are_mixed_in_for_a_while_and_the_training_goes_on_without() -> None:
    module = nn.Linear(2, 1)
    module.bias.requires_grad_(False)
    module.weight.data.copy_(torch.tensor([[3.0, 5.0]]))
    module.bias.data.fill_(7.0)
    start = StartWeights(module)
    module.weight.data.copy_(torch.tensor([[1.0, 2.0]]))
    with start.mixed_in(share_of_end=0.7):
        torch.testing.assert_close(module.weight.data, torch.tensor([[1.6, 2.9]]))
        assert module.bias.item() == 7
    assert module.weight.tolist() == [[1, 2]]
    with suppress(KeyboardInterrupt), start.mixed_in(share_of_end=0.0):
        assert module.weight.tolist() == [[3, 5]]
        raise KeyboardInterrupt
    assert module.weight.tolist() == [[1, 2]]
    assert torch.is_grad_enabled()
    with (
        pytest.raises(ValueError, match="share_of_end must be in"),
        start.mixed_in(share_of_end=2.0),
    ):
        pass


def test_gradients_are_computed_while_start_weights_are_mixed_in() -> None:
    module = nn.Linear(1, 1)
    with StartWeights(module).mixed_in(share_of_end=0.5):
        module(torch.ones(1, 1)).sum().backward()
    assert module.weight.grad is not None
