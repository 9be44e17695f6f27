from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from regionclip.checkpoints import CheckpointError, WithoutRandomWeights, load_strict


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


def other_state() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)).state_dict()


def values(module: nn.Module) -> list[Tensor]:
    return [tensor.clone() for tensor in module.state_dict().values()]


def test_load_strict_fills_every_tensor() -> None:
    module = model()
    report = load_strict(module, other_state(), source="a.pth", target="the model")
    assert all(map(torch.equal, values(module), other_state().values()))
    assert report.loaded == ("0.weight", "0.bias", "1.weight", "1.bias")
    assert str(report) == "a.pth: 4 tensors loaded into the model, 0 missing, 0 left over"


def test_load_strict_casts_half_precision_to_the_modules() -> None:
    module = model()
    half = {name: tensor.half() for name, tensor in other_state().items()}
    load_strict(module, half, source="a.pth", target="the model")
    assert module.state_dict()["0.weight"].dtype == torch.float32
    assert torch.equal(module.state_dict()["0.weight"], half["0.weight"].float())


def test_load_strict_reports_what_may_be_missing_and_left_over() -> None:
    module, state = model(), other_state()
    before = module.state_dict()["1.weight"].clone()
    del state["1.weight"], state["1.bias"]
    state["head.weight"] = torch.zeros(1)
    report = load_strict(
        module,
        state,
        source="a.pth",
        target="the model",
        allowed_missing=("1.",),
        allowed_left_over=("head.",),
    )
    assert report.missing == ("1.weight", "1.bias")
    assert report.left_over == ("head.weight",)
    assert torch.equal(module.state_dict()["1.weight"], before)


def without_a_tensor(state: dict[str, Tensor]) -> None:
    del state["1.bias"]


def with_another(state: dict[str, Tensor]) -> None:
    state["2.bias"] = torch.zeros(1)


def with_another_shape(state: dict[str, Tensor]) -> None:
    state["1.weight"] = torch.zeros(1, 4)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            without_a_tensor,
            r"rn50.pth lacks 1 of 4 tensors of regionclip 'cc-rn50' \(first: 1.bias\); is it a "
            "file of this model",
        ),
        (with_another, r"rn50.pth has unknown 1 of 5 tensors .*\(first: 2.bias\)"),
        (
            with_another_shape,
            r"rn50.pth does not fit regionclip 'cc-rn50': 1 of 4 tensors are of another shape "
            r"\(first: 1.weight is \(1, 4\), expected \(1, 3\)\)",
        ),
    ],
)
def test_load_strict_copies_nothing_from_a_file_that_does_not_fit(
    spoil: Callable[[dict[str, Tensor]], None], message: str
) -> None:
    module, state = model(), other_state()
    before = values(module)
    spoil(state)
    with pytest.raises(CheckpointError, match=message):
        load_strict(module, state, source="rn50.pth", target="regionclip 'cc-rn50'")
    assert all(map(torch.equal, values(module), before))


def test_no_random_numbers_are_drawn_for_what_a_file_will_fill() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with WithoutRandomWeights():
        linear, norm, table = nn.Linear(2, 3), nn.LayerNorm(3), nn.Embedding(4, 3)
        nn.init.xavier_normal_(linear.weight)
        nn.init.trunc_normal_(table.weight)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(each.any() for each in (linear.weight, linear.bias, table.weight))
    assert torch.equal(norm.weight, torch.ones(3))
    assert nn.Linear(2, 3).weight.any()
