"""A step of region-text pretraining, from a file in the original layout: what teacher and student
see, which regions are kept for which concepts, every loss, and the gradients' norms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from regionclip.losses import LossSum
from regionclip.methods.regionclip.pretrain import PretrainLearner, Teacher
from regionclip.methods.regionclip.pretrain_config import PretrainConfig
from regionclip.methods.regionclip.reading import read_model, read_teacher
from regionclip.methods.regionclip.students import ResNetStudent, StudentOutputs
from regionclip.pairs import RegionConcepts, match_regions_to_concepts
from regionclip.regions.map_regions import MapRegions
from regionclip.structures import CaptionedBatch, Proposals

from .golden import check, checkpoint, golden, pixels

pytestmark = pytest.mark.slow
ORIGINAL = PretrainConfig(image_batching="padded")
LOSSES = {
    "image_text": "loss_img_txt_level",
    "distillation": "loss_region_distill",
    "contrastive": "loss_concept_contrastive",
}
THRESHOLDS = {"": 0.1, "thr5_": 0.5, "thr9_": 0.9}
"""Prefixes of the arrays."""
architectures = pytest.mark.parametrize("architecture", ["rn50", "rn50x4"])


class RecordedLearner(PretrainLearner):
    """Keeps what student and teacher gave last."""

    recorded: StudentOutputs
    taught: torch.Tensor

    def outputs(
        self, images: Sequence[torch.Tensor], boxes: Sequence[torch.Tensor]
    ) -> StudentOutputs:
        self.recorded = super().outputs(images, boxes)
        return self.recorded

    def teacher_features(self, batch: CaptionedBatch, drawn: Sequence[Proposals]) -> torch.Tensor:
        self.taught = super().teacher_features(batch, drawn)
        return self.taught


@dataclass(frozen=True, slots=True)
class Step:
    """One forward pass."""

    learner: PretrainLearner
    batch: CaptionedBatch
    losses: dict[str, LossSum]
    outputs: StudentOutputs
    teacher_features: torch.Tensor


def batch_of(architecture: str) -> CaptionedBatch:
    expected = golden(f"{architecture}_pretrain")
    return CaptionedBatch(
        images=(pixels(320, 480), pixels(352, 416, seed_offset=20)),
        captions=tuple(str(each) for each in expected["captions"]),
        seeds=(0, 1),
        names=("first", "second"),
        proposals=tuple(Proposals(torch.from_numpy(each)) for each in expected["boxes"]),
    )


def learner_of(architecture: str) -> RecordedLearner:
    parts = ("backbone.", "teacher_backbone.", "lang_encoder.")
    state = checkpoint(f"regionclip_pretrained-cc_{architecture}", only=parts)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save({"model": state}, path)
        student, teacher = read_model(path).model, read_teacher(path)
    assert teacher is not None
    pool = torch.from_numpy(golden(f"{architecture}_pretrain")["pool"])
    return RecordedLearner(
        ResNetStudent(student.encoder, ORIGINAL),
        pool,
        Teacher(MapRegions(teacher), pool),
        None,
        ORIGINAL,
        permutation_of=lambda seed: torch.arange,
    )


@cache
def step_of(architecture: str) -> Step:
    learner, batch = learner_of(architecture), batch_of(architecture)
    losses = learner(batch)
    return Step(learner, batch, losses, learner.recorded, learner.taught)


def losses_of(step: Step, pairs: RegionConcepts) -> dict[str, LossSum]:
    whole = step.learner.image_text_loss(step.outputs, step.batch.captions)
    return {"image_text": whole, **step.learner.region_losses(step.outputs, pairs)}


@architectures
def test_captions_become_the_originals_tokens(architecture: str) -> None:
    step, case = step_of(architecture), f"{architecture}_pretrain"
    tokens = step.learner.student.encoder.tokenize(step.batch.captions)
    check(case, "token_ids", tokens, golden(case)["token_ids"], rtol=0.0)


@architectures
def test_student_and_teacher_see_what_the_originals_see(architecture: str) -> None:
    step, case = step_of(architecture), f"{architecture}_pretrain"
    expected = golden(case)
    height, width = (max(each.shape[axis] for each in step.batch.images) for axis in (1, 2))
    check(case, "padded", (len(step.batch.images), 3, height, width), expected["padded"], rtol=0.0)
    teacher, student = step.teacher_features, step.outputs.regions.detach()
    check(case, "teacher_feats_slice", teacher[:, ::16], expected["teacher_feats_slice"])
    check(case, "student_feats_slice", student[:, ::16], expected["student_feats_slice"])
    check(case, "global_feats", step.outputs.images.detach(), expected["global_feats"])


@pytest.mark.parametrize("prefix", THRESHOLDS)
@architectures
def test_regions_get_the_originals_concepts_and_losses(architecture: str, prefix: str) -> None:
    step, case = step_of(architecture), f"{architecture}_pretrain"
    expected = golden(case)
    if f"{prefix}keep" not in expected:
        pytest.skip(f"{case} has no numbers at the threshold {THRESHOLDS[prefix]}")
    pairs = match_regions_to_concepts(
        step.teacher_features,
        step.learner.teacher.concept_embeddings,
        min_score=THRESHOLDS[prefix],
    )
    check(case, f"{prefix}keep", pairs.kept, expected[f"{prefix}keep"], rtol=0.0)
    for name, loss in losses_of(step, pairs).items():
        array = prefix + LOSSES[name]
        check(case, array, loss.mean().item(), expected[array])
    if prefix == "":
        same = pairs.targets[:, None] == pairs.targets[None]
        check(case, "targets", pairs.targets, expected["targets"], rtol=0.0)
        top = pairs.scores.max(dim=1).values
        check(case, "concept_scores_top", top, expected["concept_scores_top"])
        check(case, "label_sum", same.sum(dim=1), expected["label_sum"], rtol=0.0)


@architectures
def test_gradients_and_trained_tensors_are_the_originals(architecture: str) -> None:
    step, case = step_of(architecture), f"{architecture}_pretrain"
    expected, learner = golden(case), step.learner
    assert set(step.losses) == set(LOSSES)
    for name, loss in step.losses.items():
        assert loss.mean().item() == pytest.approx(expected[LOSSES[name]], rel=1e-4)
    own = {
        name.replace("encoder.clip.visual.", "backbone."): each
        for name, each in learner.named_parameters()
        if each.requires_grad
    }
    prefix = "gradnorm_"
    compared = [array.removeprefix(prefix) for array in expected if array.startswith(prefix)]
    total = torch.stack([loss.mean() for loss in step.losses.values()]).sum()
    # those of other tensors take as long as the rest of the step, and nobody looks
    gradients = torch.autograd.grad(total, [own[name] for name in compared])
    for name, gradient in zip(compared, gradients, strict=True):
        array = prefix + name
        check(case, array, gradient.norm().item(), expected[array], rtol=1e-3)
    names = [str(each) for each in expected["trainable"]]
    assert set(own) == set(names)
    check(case, "trainable", sorted(map(names.index, own)), range(len(names)), rtol=0.0)
