"""Two processes with unequal parts of a batch, against torch's norm on the whole."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from regionclip.encoders.shared_norms import SharedBatchNorm

ROWS = 5 + torch.randn(5, 3, 2, 4, generator=torch.Generator().manual_seed(0))
WEIGHTS = torch.randn(ROWS.shape, generator=torch.Generator().manual_seed(1))
STEPS = ((2, 5), (5, 5), (0, 0))
"""Per step, rows of the first process, and of both."""


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


def work(rank: int, store: str, folder: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2
    )
    norm, found = norm_of(SharedBatchNorm), []
    for own, both in STEPS:
        found.append(answer(norm, (slice(0, own), slice(own, both))[rank]))
    gradients = {name: each.grad for name, each in norm.named_parameters()}
    state = {"steps": found, "norm": norm.state_dict(), "gradients": gradients}
    torch.save(state, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_what_one_does_also_where_one_or_both_have_no_row(
    tmp_path: Path,
) -> None:
    spawn(work, (str(tmp_path / "store"), str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    alone = norm_of(nn.BatchNorm2d)
    for step, (_, both) in enumerate(STEPS[:2]):
        expected = answer(alone, slice(0, both))
        for name, tensor in expected.items():
            parts = [each["steps"][step][name] for each in (first, second)]
            torch.testing.assert_close(torch.cat(parts), tensor)
    for each in (first, second):
        for name, tensor in alone.state_dict().items():
            torch.testing.assert_close(each["norm"][name], tensor, msg=name)
    for name, parameter in alone.named_parameters():
        total = first["gradients"][name] + second["gradients"][name]
        torch.testing.assert_close(total, parameter.grad, msg=name)


def test_alone_it_is_torchs_own_and_needs_no_row() -> None:
    shared, plain = norm_of(SharedBatchNorm), norm_of(nn.BatchNorm2d)
    for mode in (True, False):
        shared.train(mode)
        plain.train(mode)
        own, expected = (answer(norm, slice(0, 5)) for norm in (shared, plain))
        for name, tensor in expected.items():
            torch.testing.assert_close(own[name], tensor)
    before = {name: each.clone() for name, each in shared.state_dict().items()}
    shared.train()
    assert answer(shared, slice(0, 0))["out"].shape == (0, 3, 2, 4)
    for name, tensor in shared.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    for parameter in shared.parameters():
        assert parameter.grad is not None
