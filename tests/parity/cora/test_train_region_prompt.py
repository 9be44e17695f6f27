"""Three steps in which a region prompt is trained, from CLIP's file on."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from torch import Tensor

from regionclip.encoders.clip_resnet import ClipResNet
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
    gradients: list[Tensor]
    prompts: list[Tensor]


class RecordedLearner(RegionPromptLearner):
    """Keeps the logits of its steps; encodes the batch, the same in all of them, once."""

    def __init__(self, encoder: ClipResNet, class_embeddings: Tensor) -> None:
        super().__init__(encoder, class_embeddings)
        self.recorded: list[Tensor] = []
        self.encoded: Tensor | None = None

    def cells(self, images: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        if self.encoded is None:
            self.encoded = super().cells(images, boxes)
        return self.encoded

    def logits(self, images: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        logits = super().logits(images, boxes)
        self.recorded.append(logits.detach())
        return logits


class RecordedStage(RunningStage):
    """Keeps the prompt's gradients as they are before they are cut."""

    gradients: list[Tensor]

    def _limit_gradients(self) -> None:
        gradient = self.learner.prompt.grad
        assert isinstance(gradient, Tensor)
        self.gradients.append(gradient.clone())
        super()._limit_gradients()


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
    learner = RecordedLearner(encoder, torch.from_numpy(expected["class_embeddings"]))
    stage = Stage(name="prompt", learner=learner, batches=lambda first: [], optimization=PLAN)
    running = RecordedStage(stage, make_accelerator("fp32", device="cpu"))
    running.gradients = []
    before = learner.prompt.detach().clone()
    losses, prompts = [], []
    for step in range(NUM_STEPS):
        losses.append(running.step(step, iter([batch]))["loss"].item())
        prompts.append(learner.prompt.detach().clone())
    assert len(learner.recorded) == len(running.gradients) == NUM_STEPS
    # what was encoded once would be the same in every step
    (trained,) = [own for own in learner.parameters() if own.requires_grad]
    assert trained is learner.prompt
    return Steps(before, losses, learner.recorded, running.gradients, prompts)


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
    own = [gradient.norm().item() for gradient in ours.gradients]
    check(case, "grad_norm_per_step", own, norms, rtol=1e-3)
    array = expected["grad_step0_sub"]
    check(case, "grad_step0_sub", sampled(ours.gradients[0], array.size), array, rtol=1e-3)


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
