import os
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from regionclip.losses import LossSum
from regionclip.training import Bookkeeping, Evaluation, Optimization, Progress, Stage, Trainer
from regionclip.training.engine import make_accelerator
from tests.runs import entries

pytestmark = pytest.mark.usefixtures("one_thread")
PLAN = Optimization(
    steps=12, batch_size=4, learning_rate=0.05, weight_decay=0.0, warmup_steps=3, optimizer="adamw"
)
TRUE_WEIGHT = torch.tensor([[1.0, -2.0, 0.5]])


class Line(nn.Module):
    """Learns a line from noisy points; the noise is drawn from the global generator."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(1, 3, generator=generator))

    def forward(self, batch: Tensor) -> dict[str, LossSum]:
        noisy = batch + 0.1 * torch.randn_like(batch)
        squares = (noisy @ (self.weight - TRUE_WEIGHT).T).square()
        return {"square": LossSum(squares.sum(), torch.tensor(float(len(batch))))}


class Slopes(nn.Module):
    """Costs what its two weights are worth: gradients of 3 and 0.5."""

    def __init__(self) -> None:
        super().__init__()
        self.steep, self.flat = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, batch: Tensor) -> dict[str, LossSum]:
        return {"worth": LossSum((3 * self.steep + 0.5 * self.flat).sum(), torch.tensor(1.0))}


@pytest.mark.parametrize(
    ("norm_of", "steep", "flat"),
    [("each", 1.0, 0.5), ("all", 3 / 9.25**0.5, 0.5 / 9.25**0.5)],
)
def test_gradients_are_limited_together_or_each(
    norm_of: Literal["all", "each"], steep: float, flat: float, tmp_path: Path
) -> None:
    plan = Optimization(
        steps=1,
        batch_size=4,
        learning_rate=1.0,
        momentum=0.0,
        weight_decay=0.0,
        max_gradient_norm=1.0,
        gradient_norm_of=norm_of,
    )
    slopes = Slopes()
    trainer(tmp_path).run(Stage(name="slopes", learner=slopes, batches=points, optimization=plan))
    assert slopes.steep.item() == pytest.approx(-steep, rel=1e-4)
    assert slopes.flat.item() == pytest.approx(-flat, rel=1e-4)


def test_runs_of_different_precision_follow_each_other_in_one_process() -> None:
    for precision in ("fp32", "bf16", "fp32"):
        accelerator = make_accelerator(precision, device="cpu")
        assert accelerator.mixed_precision == ("no" if precision == "fp32" else precision)


def distance(line: Line) -> float:
    return float((line.weight.detach() - TRUE_WEIGHT).norm())


def points(first: int) -> Iterable[Tensor]:
    for part in range(first, 1000):
        yield torch.randn(4, 3, generator=torch.Generator().manual_seed(part))


def trainer(folder: Path, **options: object) -> Trainer:
    defaults = {
        "settings": {},
        "resume": True,
        "seed": 0,
        "books": Bookkeeping(checkpoint_every=5, log_every=2),
    }
    return Trainer(folder, make_accelerator("fp32", device="cpu"), **(defaults | options))  # type: ignore[arg-type]


def losses(folder: Path) -> list[tuple[int, float]]:
    return [(each["step"], each["loss"]) for each in entries(folder) if "loss" in each]


def test_a_stage_learns_and_says_so(tmp_path: Path) -> None:
    line = Line()
    before = distance(line)
    seen: list[tuple[str, int, int]] = []
    trainer(tmp_path, progress=lambda stage, done, steps, _: seen.append((stage, done, steps))).run(
        Stage(name="line", learner=line, batches=points, optimization=PLAN)
    )
    assert distance(line) < before
    assert seen == [("line", done, 12) for done in (2, 4, 6, 8, 10, 12)]
    last = entries(tmp_path)[-1]
    assert last["square"] == pytest.approx(last["loss"])
    assert last["seconds_left"] == 0
    assert not line.training


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_run_that_is_broken_off_goes_on_as_if_it_had_not_been(
    tmp_path: Path, ema_decay: float | None
) -> None:
    plan = Optimization(
        steps=12, batch_size=4, learning_rate=0.05, optimizer="adamw", ema_decay=ema_decay
    )
    whole, broken = Line(), Line()
    trainer(tmp_path / "whole").run(
        Stage(name="line", learner=whole, batches=points, optimization=plan)
    )

    class BrokenError(Exception):
        pass

    def break_off(stage: str, done: int, steps: int, loss: float) -> None:
        if done == 8:  # the last checkpoint is of step 5: three steps are lost
            raise BrokenError

    with pytest.raises(BrokenError):
        trainer(tmp_path / "broken", progress=break_off).run(
            Stage(name="line", learner=broken, batches=points, optimization=plan)
        )
    resumed = Line()
    trainer(tmp_path / "broken").run(
        Stage(name="line", learner=resumed, batches=points, optimization=plan)
    )
    assert torch.equal(whole.weight, resumed.weight)
    # entries from step 6 on are written again, with the same losses
    assert losses(tmp_path / "broken")[-3:] == losses(tmp_path / "whole")[-3:]
    assert len({step for step, _ in losses(tmp_path / "broken")}) == len(
        losses(tmp_path / "broken")
    )


class Batches:
    """Counts the batches that were taken."""

    def __init__(self) -> None:
        self.count = 0

    def from_step(self, first: int) -> Iterable[Tensor]:
        for batch in points(first):
            self.count += 1
            yield batch

    def state(self) -> dict[str, int]:
        return {"count": self.count}

    def restore(self, states: Iterable[Mapping[str, int]]) -> None:
        self.count = sum(each["count"] for each in states)


def test_a_resumed_run_goes_on_counting_and_counts_no_lost_step_twice(tmp_path: Path) -> None:
    class BrokenError(Exception):
        pass

    def break_off(stage: str, done: int, steps: int, loss: float) -> None:
        if done == 8:  # the last checkpoint is of step 5
            raise BrokenError

    def run(progress: Progress | None = None) -> int:
        batches = Batches()
        stage = Stage(
            name="line",
            learner=Line(),
            batches=batches.from_step,
            optimization=PLAN,
            tally=batches,
        )
        trainer(tmp_path, progress=progress).run(stage)
        return batches.count

    with pytest.raises(BrokenError):
        run(break_off)
    assert run() == 12
    # of a stage that is done, no batch is taken
    assert run() == 12


def test_a_signal_lets_the_step_finish_and_saves_it(tmp_path: Path) -> None:
    def asked_to_stop(first: int) -> Iterable[Tensor]:
        for number, batch in enumerate(points(first), first):
            if number == 6:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path).run(
            Stage(name="line", learner=Line(), batches=asked_to_stop, optimization=PLAN)
        )
    state = torch.load(tmp_path / "checkpoints" / "line.pt", weights_only=True)
    assert state["steps_done"] == 7
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_the_best_weights_are_kept_by_the_metric(tmp_path: Path) -> None:
    line = Line()
    figures = iter([0.1, 0.5, 0.3, 0.2])
    kept: list[float] = []
    current: list[float] = []

    def measure() -> dict[str, float]:
        assert not line.training
        current.append(next(figures))
        return {"ap50": current[-1]}

    stage = Stage(
        name="line",
        learner=line,
        batches=points,
        optimization=PLAN,
        evaluation=Evaluation(
            every=5, metric="ap50", run=measure, keep_best=lambda: kept.append(current[-1])
        ),
    )
    trainer(tmp_path).run(stage)
    assert current == [0.1, 0.5, 0.3, 0.2]  # before, after 5, 10 and 12 steps
    assert kept == [0.1, 0.5]
    logged = [(each["step"], each["ap50"]) for each in entries(tmp_path) if "ap50" in each]
    assert logged == [(0, 0.1), (5, 0.5), (10, 0.3), (12, 0.2)]


def test_an_unknown_metric_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    evaluation = Evaluation(every=5, metric="ap", run=lambda: {"ap50": 0.0}, keep_best=lambda: None)
    with pytest.raises(ValueError, match="gives no 'ap'; expected one of ap50"):
        trainer(tmp_path).run(
            Stage(
                name="line",
                learner=Line(),
                batches=points,
                optimization=PLAN,
                evaluation=evaluation,
            )
        )


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    def broken(first: int) -> Iterable[Tensor]:
        while True:
            yield torch.full((4, 3), float("nan"))

    with pytest.raises(
        FloatingPointError, match="the loss of line is no finite number at step 2; lower learning"
    ):
        trainer(tmp_path).run(Stage(name="line", learner=Line(), batches=broken, optimization=PLAN))


def test_accumulated_parts_of_equal_size_equal_the_whole(tmp_path: Path) -> None:
    class Exact(Line):
        def forward(self, batch: Tensor) -> dict[str, LossSum]:
            squares = (batch @ (self.weight - TRUE_WEIGHT).T).square()
            return {"square": LossSum(squares.sum(), torch.tensor(float(len(batch))))}

    def halves(first: int) -> Iterable[Tensor]:
        for batch in points(first // 2):
            yield from batch.split(2)

    whole, parted = Exact(), Exact()
    options = {"steps": 6, "batch_size": 4, "learning_rate": 0.05}
    trainer(tmp_path / "a").run(
        Stage(name="line", learner=whole, batches=points, optimization=Optimization(**options))
    )
    trainer(tmp_path / "b").run(
        Stage(
            name="line",
            learner=parted,
            batches=halves,
            optimization=Optimization(**options, accumulate=2),
        )
    )
    torch.testing.assert_close(whole.weight, parted.weight)


def test_a_stage_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    first, second = Line(), Line()
    trainer(tmp_path).run(Stage(name="line", learner=first, batches=points, optimization=PLAN))

    def none(first: int) -> Iterable[Tensor]:
        raise AssertionError("nothing is left to do")

    trainer(tmp_path).run(Stage(name="line", learner=second, batches=none, optimization=PLAN))
    assert torch.equal(first.weight, second.weight)


def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path) -> None:
    def broken_at_the_end(first: int) -> Iterable[Tensor]:
        yield from (torch.zeros(4, 3) for _ in range(4))
        while True:
            yield torch.full((4, 3), float("inf"))

    with pytest.raises(FloatingPointError, match="a weight of line is no finite number at step 5"):
        trainer(tmp_path, books=Bookkeeping(checkpoint_every=5, log_every=100)).run(
            Stage(name="line", learner=Line(), batches=broken_at_the_end, optimization=PLAN)
        )
    assert not (tmp_path / "checkpoints" / "line.pt").exists()


def test_a_run_that_begins_anew_deletes_its_own_files_only(tmp_path: Path) -> None:
    stage = Stage(name="line", learner=Line(), batches=points, optimization=PLAN)
    (tmp_path / "of_the_user.safetensors").write_text("precious")
    trainer(tmp_path, resume=False).run(stage)
    first = losses(tmp_path)
    (tmp_path / "model.safetensors").write_text("of the run")
    # other settings, which a run that resumes would refuse
    trainer(tmp_path, settings={"seed": 1}, resume=False).run(
        Stage(name="line", learner=Line(), batches=points, optimization=PLAN)
    )
    assert losses(tmp_path) == first
    assert not (tmp_path / "model.safetensors").exists()
    assert (tmp_path / "of_the_user.safetensors").read_text() == "precious"
