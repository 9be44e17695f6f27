import pytest
import torch
from torch import nn

from regionclip.training.optimization import (
    Optimization,
    learning_rate_factor,
    make_optimizer,
    parameter_groups,
)


def plan(**changes: object) -> Optimization:
    return Optimization(**({"steps": 100, "batch_size": 8, "learning_rate": 0.1} | changes))  # type: ignore[arg-type]


def test_steps_with_warmup_follow_the_published_schedule() -> None:
    own = plan(steps=90, warmup_steps=10, milestones=(60, 80))
    # RegionCLIP's schedule at a thousandth: linear from 0.001, then a tenth twice
    assert learning_rate_factor(0, own) == pytest.approx(0.001)
    assert learning_rate_factor(5, own) == pytest.approx(0.001 * 0.5 + 0.5)
    assert learning_rate_factor(10, own) == 1
    assert [learning_rate_factor(step, own) for step in (59, 60, 79, 80)] == pytest.approx(
        [1, 0.1, 0.1, 0.01]
    )


def test_a_cosine_ends_near_zero() -> None:
    own = plan(schedule="cosine")
    assert learning_rate_factor(0, own) == 1
    assert learning_rate_factor(50, own) == pytest.approx(0.5)
    assert learning_rate_factor(99, own) < 1e-3


def test_a_cosine_may_begin_when_the_rate_has_risen() -> None:
    own = plan(schedule="cosine_after_warmup", warmup_steps=10, steps=30)
    factors = [learning_rate_factor(step, own) for step in (0, 4, 9, 10, 20)]
    assert factors == pytest.approx([0.1, 0.5, 1, 1, 0.5])
    assert 0 < learning_rate_factor(29, own) < 0.01
    without = plan(schedule="cosine_after_warmup")
    assert learning_rate_factor(0, without) == 1


def test_adamw_divides_by_no_less_than_asked() -> None:
    own = make_optimizer(nn.Linear(1, 1), plan(optimizer="adamw", epsilon=1e-6, second_beta=0.98))
    assert own.defaults["eps"] == 1e-6
    assert own.defaults["betas"] == (0.9, 0.98)
    with pytest.raises(ValueError, match="epsilon must be positive, got 0"):
        plan(epsilon=0.0)


def test_vectors_may_decay_otherwise() -> None:
    module = nn.Linear(3, 2)
    matrices, vectors = parameter_groups(
        module.parameters(), plan(weight_decay=0.05, vector_weight_decay=0.0)
    )
    assert matrices["params"][0] is module.weight
    assert vectors["params"][0] is module.bias
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.05, 0)
    assert [group["weight_decay"] for group in parameter_groups(module.parameters(), plan())] == [
        1e-4,
        1e-4,
    ]


def test_frozen_parameters_are_not_optimised() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[0].requires_grad_(False)
    optimizer = make_optimizer(module, plan(optimizer="adamw"))
    held = [each for group in optimizer.param_groups for each in group["params"]]
    assert {id(each) for each in held} == {id(each) for each in module[1].parameters()}
    assert isinstance(optimizer, torch.optim.AdamW)
    with pytest.raises(ValueError, match="nothing is left to train"):
        make_optimizer(module.requires_grad_(False), plan())


def test_a_batch_divides_into_processes_and_parts() -> None:
    assert plan(batch_size=16, accumulate=2).part_size(4) == 2
    with pytest.raises(ValueError, match="batch_size 16 does not divide into 3 processes"):
        plan(batch_size=16).part_size(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": -1}, "steps must be >= 0"),
        ({"batch_size": 0}, "batch_size >= 1, got 100 and 0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"accumulate": 0}, "accumulate must be at least 1"),
        ({"milestones": (5, 3)}, "milestones must rise"),
        ({"milestones": (5,), "schedule": "cosine"}, "go with schedule 'steps'"),
        ({"ema_decay": 1.0}, "ema_decay must be in"),
        ({"max_gradient_norm": 0.0}, "max_gradient_norm must be positive"),
        ({"gradient_norm_of": "each"}, "'each' needs a max_gradient_norm, got None"),
    ],
)
def test_settings_that_cannot_be_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(**change)
