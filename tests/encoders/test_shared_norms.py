"""Norms over processes against torch's own; ``tests/flows/test_fvit.py`` has two processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from regionclip.encoders import shared_norms
from regionclip.encoders.shared_norms import SharedBatchNorm

ROWS = 5 + torch.randn(5, 3, 2, 4, generator=torch.Generator().manual_seed(0))
WEIGHTS = torch.randn(ROWS.shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def as_if_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A group of one process that goes the way of several."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    monkeypatch.setattr(shared_norms, "_is_alone", lambda: False)
    yield
    torch.distributed.destroy_process_group()


def norm_of(kind: type[nn.BatchNorm2d]) -> nn.BatchNorm2d:
    norm = kind(3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, -1.0]))
        norm.bias.copy_(torch.tensor([0.5, 0.0, 1.0]))
    return norm


def answer(norm: nn.BatchNorm2d, part: slice) -> dict[str, Tensor]:
    rows = ROWS[part].clone().requires_grad_()
    out = norm(rows)
    (out.square() * WEIGHTS[part]).sum().backward()
    assert rows.grad is not None
    return {"out": out.detach(), "gradient": rows.grad}


def check_as_torchs(shared: nn.BatchNorm2d) -> None:
    plain = norm_of(nn.BatchNorm2d)
    for mode in (True, False):
        shared.train(mode)
        plain.train(mode)
        own, expected = (answer(norm, slice(0, 5)) for norm in (shared, plain))
        for name, tensor in expected.items():
            torch.testing.assert_close(own[name], tensor)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[name], tensor, msg=name)
    for own, its in zip(shared.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own.grad, its.grad)


def check_without_rows(shared: nn.BatchNorm2d) -> None:
    before = {name: each.clone() for name, each in shared.state_dict().items()}
    shared.train()
    assert answer(shared, slice(0, 0))["out"].shape == (0, 3, 2, 4)
    for name, tensor in shared.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    for parameter in shared.parameters():
        assert parameter.grad is not None


def test_alone_it_is_torchs_own_and_needs_no_row() -> None:
    check_as_torchs(norm_of(SharedBatchNorm))
    check_without_rows(norm_of(SharedBatchNorm))


@pytest.mark.usefixtures("as_if_shared")
def test_over_processes_it_is_torchs_on_the_rows_of_all_and_needs_none() -> None:
    check_as_torchs(norm_of(SharedBatchNorm))
    check_without_rows(norm_of(SharedBatchNorm))
