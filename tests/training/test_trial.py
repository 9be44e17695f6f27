from collections.abc import Iterable

import torch
from torch import Tensor, nn

from regionclip.losses import LossSum
from regionclip.training import Optimization, Stage
from regionclip.training.engine import make_accelerator
from regionclip.training.trial import try_stage


class Counted(nn.Module):
    """Counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.num_batches = 0
        self.norm = nn.BatchNorm1d(1)

    def forward(self, batch: Tensor) -> dict[str, LossSum]:
        self.num_batches += 1
        self.norm(batch[:, None])
        return {"loss": LossSum((self.weight * batch).sum(), torch.tensor(1.0))}


def tried(available: int, *, accumulate: int = 1) -> tuple[Counted, float]:
    def batches(first: int) -> Iterable[Tensor]:
        return (torch.ones(3) for _ in range(first, available))

    plan = Optimization(steps=9, batch_size=2, learning_rate=1.0, accumulate=accumulate)
    learner = Counted()
    stage = Stage(name="counted", learner=learner, batches=batches, optimization=plan)
    trial = try_stage(stage, make_accelerator("fp32", device="cpu"), num_parts=3)
    assert trial.peak_memory_mb > 1
    return learner, trial.seconds


def test_a_trial_computes_a_few_parts_and_changes_nothing() -> None:
    learner, seconds = tried(available=9)
    assert learner.num_batches == 3
    assert seconds > 0
    assert torch.equal(learner.weight, torch.ones(3))
    assert learner.weight.grad is None
    for name, buffer in nn.BatchNorm1d(1).named_buffers():
        assert torch.equal(learner.norm.get_buffer(name), buffer), name


def test_a_run_shorter_than_a_trial_is_tried_as_far_as_it_goes() -> None:
    learner, seconds = tried(available=1)
    assert learner.num_batches == 1
    assert seconds > 0


def test_a_run_without_batches_takes_no_time() -> None:
    assert tried(available=0)[1] == 0
