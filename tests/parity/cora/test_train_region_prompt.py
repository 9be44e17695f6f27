"""Three steps in which a region prompt is trained, from CLIP's file on."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from torch import Tensor

from regionclip.methods.cora.region_prompt import RegionPromptLearner
from regionclip.methods.regionclip.reading import read_model
from regionclip.structures import DetectionBatch
from regionclip.training import Optimization, Stage
from regionclip.training.engine import make_accelerator
from regionclip.training.running_stage import RunningStage
from tests.parity.comparing import parity_folder

from .golden import check, golden, sampled, seed, stand_ins
from .learning import batch2, targets_in_pixels

pytestmark = pytest.mark.slow
architectures = pytest.mark.parametrize("architecture", ["RN50", "RN50x4"])
NUM_STEPS = 3
PLAN = Optimization(
    steps=NUM_STEPS,
    batch_size=2,
    learning_rate=1e-4,
    optimizer="adamw",
    weight_decay=1e-4,
    max_gradient_norm=0.1,
)


@dataclass(frozen=True, slots=True)
class Steps:
    """What three steps gave."""

    before: Tensor
    losses: list[float]
    logits: list[Tensor]
    gradient: Tensor
    gradient_norms: list[float]
    prompts: list[Tensor]


def case_of(architecture: str) -> str:
    return f"{architecture.lower()}_regionprompt_train"


@cache
def steps_of(architecture: str) -> Steps:
    expected = golden(case_of(architecture))
    manifest = parity_folder() / "cora" / "manifests" / f"clip_{architecture}.json"
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip.pt"
        torch.save(stand_ins().build(manifest, seed()), path)
        encoder = read_model(path).model.float().encoder
    images = batch2()
    targets = tuple(targets_in_pixels(expected, row, each) for row, each in enumerate(images))
    batch = DetectionBatch(images, targets, (0, 0))
    learner = RegionPromptLearner(encoder, torch.from_numpy(expected["class_embeddings"]))
    stage = Stage(name="prompt", learner=learner, batches=lambda first: [], optimization=PLAN)
    running = RunningStage(stage, make_accelerator("fp32", device="cpu"))
    boxes = [own.boxes for own in targets]
    found = Steps(learner.prompt.detach().clone(), [], [], torch.zeros(0), [], [])
    gradients = []
    for step in range(NUM_STEPS):
        found.logits.append(learner.logits(images, boxes).detach())
        loss = learner(batch)["classes"].mean()
        [gradient] = torch.autograd.grad(loss, [learner.prompt])
        gradients.append(gradient)
        found.gradient_norms.append(gradient.norm().item())
        shares = running.step(step, iter([batch]))
        found.losses.append(shares["loss"].item())
        found.prompts.append(learner.prompt.detach().clone())
    return Steps(
        found.before, found.losses, found.logits, gradients[0], found.gradient_norms, found.prompts
    )


@architectures
def test_losses_and_logits_are_the_originals(architecture: str) -> None:
    case, ours = case_of(architecture), steps_of(architecture)
    expected = golden(case)
    check(case, "loss_per_step", ours.losses, expected["loss_per_step"])
    for step in (0, 2):
        array = f"logits_step{step}"
        check(case, array, ours.logits[step], expected[array], rtol=1e-4)


@architectures
def test_the_gradient_is_the_originals(architecture: str) -> None:
    case, ours = case_of(architecture), steps_of(architecture)
    expected = golden(case)
    norms = expected["grad_norm_per_step"]
    check(case, "grad_norm_per_step", ours.gradient_norms, norms, rtol=1e-3)
    array = expected["grad_step0_sub"]
    check(case, "grad_step0_sub", sampled(ours.gradient, array.size), array, rtol=1e-3)


@architectures
def test_the_prompt_moves_as_the_originals(architecture: str) -> None:
    case, ours = case_of(architecture), steps_of(architecture)
    expected = golden(case)
    before = expected["prompt_before_sub"]
    check(case, "prompt_before_sub", sampled(ours.before, before.size), before, rtol=1e-7)
    for step, prompt in enumerate(ours.prompts):
        array = expected["prompt_after_each_step_sub"][step]
        name = f"prompt_after_each_step_sub[{step}]"
        own = sampled(prompt, array.size)
        # Adam moves every number by about the learning rate, whatever its gradient
        check(case, name, own - before, array - before, rtol=0.0, atol=1e-6)
        assert np.abs(array - before).max() > 0.9e-4
