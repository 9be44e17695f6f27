"""How long and how fast one stage of training learns."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimization:
    """Optimizer and schedule of one stage.

    Defaults are those of RegionCLIP's transfer learning (microsoft/RegionCLIP@4b8513b
    ``configs/COCO-InstanceSegmentation/CLIP_fast_rcnn_R_50_C4_ovd.yaml``).
    """

    steps: int
    """Updates of the weights."""
    batch_size: int
    """Images per step, over all processes and accumulated parts: the learning rate need not be
    changed when the number of processes is."""
    learning_rate: float
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.9
    """Of ``sgd``; AdamW's first beta."""
    second_beta: float = 0.999
    """Of ``adamw``."""
    epsilon: float = 1e-8
    """Of ``adamw``: what keeps it from dividing by 0."""
    weight_decay: float = 1e-4
    vector_weight_decay: float | None = None
    """Of biases, norms and scales; ``None`` takes ``weight_decay``."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly."""
    warmup_factor: float = 0.001
    """Fraction of the learning rate that the first step has; of ``cosine_after_warmup`` it is
    one ``warmup_steps``-th."""
    schedule: Literal["steps", "cosine", "cosine_after_warmup"] = "steps"
    """``cosine`` falls to 0 over all steps, and rises over the first of them;
    ``cosine_after_warmup`` begins to fall when it has risen."""
    milestones: tuple[int, ...] = ()
    """Steps at which ``steps`` multiplies the learning rate by ``milestone_factor``."""
    milestone_factor: float = 0.1
    accumulate: int = 1
    """Parts that a process computes its share of a step in, one after another; more needs less
    memory. Losses are averaged over parts, so a step is only nearly the same."""
    max_gradient_norm: float | None = None
    """Gradients of a larger norm are scaled down to it."""
    gradient_norm_of: Literal["all", "each"] = "all"
    """Which norm that is: one of all gradients together, or each tensor's own, as in detectron2's
    ``CLIP_TYPE "norm"``, which RegionCLIP's pretraining uses."""
    ema_decay: float | None = None
    """Keep an exponential moving average of the weights, and evaluate and save it instead."""

    def __post_init__(self) -> None:
        if self.steps < 0 or self.batch_size < 1:
            raise ValueError(
                f"steps must be >= 0 and batch_size >= 1, got {self.steps} and {self.batch_size}"
            )
        if self.epsilon <= 0:
            raise ValueError(f"epsilon must be positive, got {self.epsilon}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if self.accumulate < 1:
            raise ValueError(f"accumulate must be at least 1, got {self.accumulate}")
        if self.milestones and self.schedule != "steps":
            raise ValueError(
                f"milestones {self.milestones} go with schedule 'steps', not {self.schedule!r}"
            )
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones must rise, got {self.milestones}")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in (0, 1), got {self.ema_decay}")
        if self.gradient_norm_of == "each" and self.max_gradient_norm is None:
            raise ValueError("gradient_norm_of 'each' needs a max_gradient_norm, got None")
        if self.max_gradient_norm is not None and self.max_gradient_norm <= 0:
            raise ValueError(f"max_gradient_norm must be positive, got {self.max_gradient_norm}")

    def part_size(self, num_processes: int) -> int:
        """Images that one process computes at a time.

        Raises:
            ValueError: The batch does not divide into equal parts.
        """
        parts = num_processes * self.accumulate
        if self.batch_size % parts:
            raise ValueError(
                f"batch_size {self.batch_size} does not divide into {num_processes} processes "
                f"times {self.accumulate} accumulated parts; choose a multiple of {parts}"
            )
        return self.batch_size // parts


def learning_rate_factor(step: int, plan: Optimization) -> float:
    """Fraction of the learning rate at a step, counted from 0.

    Source:
        Linear warm-up (Goyal et al., arXiv:1706.02677, sec. 2.2) as detectron2 counts it
        (facebookresearch/detectron2@e3ee0ab ``detectron2/solver/lr_scheduler.py``); cosine decay:
        Loshchilov and Hutter, arXiv:1608.03983, eq. 5.
    """
    if plan.schedule == "cosine_after_warmup":
        return _cosine_after_warmup(step, plan)
    warmup = 1.0
    if step < plan.warmup_steps:
        share = step / plan.warmup_steps
        warmup = plan.warmup_factor * (1 - share) + share
    if plan.schedule == "cosine":
        return warmup * 0.5 * (1 + math.cos(math.pi * step / max(plan.steps, 1)))
    return warmup * plan.milestone_factor ** sum(step >= each for each in plan.milestones)


def _cosine_after_warmup(step: int, plan: Optimization) -> float:
    """As open_clip's ``cosine_lr`` counts it."""
    if step < plan.warmup_steps:
        return (step + 1) / plan.warmup_steps
    left = max(plan.steps - plan.warmup_steps, 1)
    return 0.5 * (1 + math.cos(math.pi * (step - plan.warmup_steps) / left))


def make_optimizer(module: nn.Module, plan: Optimization) -> torch.optim.Optimizer:
    """An optimizer of the module's trainable parameters.

    Raises:
        ValueError: Nothing in the module is trainable.
    """
    groups = parameter_groups((each for each in module.parameters() if each.requires_grad), plan)
    if not groups:
        raise ValueError("nothing is left to train: every part is frozen")
    if plan.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=plan.learning_rate, momentum=plan.momentum)
    betas = (plan.momentum, plan.second_beta)
    return torch.optim.AdamW(groups, lr=plan.learning_rate, betas=betas, eps=plan.epsilon)


def parameter_groups(
    parameters: Iterable[nn.Parameter], plan: Optimization
) -> list[dict[str, Any]]:
    """Matrices and kernels, then vectors and scalars, each with its weight decay."""
    own = list(parameters)
    of_vectors = plan.weight_decay if plan.vector_weight_decay is None else plan.vector_weight_decay
    groups = [
        {"params": [each for each in own if each.ndim >= 2], "weight_decay": plan.weight_decay},
        {"params": [each for each in own if each.ndim < 2], "weight_decay": of_vectors},
    ]
    return [group for group in groups if group["params"]]
