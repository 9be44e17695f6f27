"""CLIPSelf's learner and the baseline's, on stand-in weights of EVA-02 ViT-B/16."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor

from regionclip.checkpoints.strict import WithoutRandomWeights
from regionclip.encoders.eva import EVA_SPECS, EvaClip
from regionclip.encoders.eva_weights import eva_tensors
from regionclip.encoders.unlocking import logit_scale_of
from regionclip.methods.clipself.learner import ClipSelfLearner
from regionclip.methods.clipself.pseudo_labels import PseudoLabelLearner
from regionclip.methods.clipself.training_config import ClipSelfTraining, PseudoLabelTraining
from regionclip.structures import CropBatch
from tests.parity.clim.training_numbers import check, golden, pixels, stand_ins, stats
from tests.parity.comparing import parity_folder, seed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SELF, PSEUDO = "loss_clipself", "loss_regionclip"
FEATURES, LOSS, GRADIENTS = 2e-5, 1e-4, 1e-3
"""Relative: vectors pass through other attention kernels, gradients through all of the tower."""
SIDE = 320


@pytest.fixture(scope="module")
def eva() -> EvaClip:
    path = parity_folder() / "clim" / "manifests" / "eva02_clip_b_psz16_s8b.json"
    if not path.is_file():
        pytest.skip(f"no manifest: {path} is not there")
    with WithoutRandomWeights():
        encoder = EvaClip(EVA_SPECS["EVA02-B-16"]).eval()
    state = eva_tensors(stand_ins().build(path, seed()), source=str(path))
    encoder.clip.load_state_dict({name: each.float() for name, each in state.items()})
    return encoder


def images() -> Tensor:
    first = 200_000 * (seed() + 1)
    return torch.stack([pixels(SIDE, SIDE, first + row) for row in range(2)])


def boxes_and_rows(table: np.ndarray) -> tuple[tuple[Tensor, ...], list[list[int]]]:
    """Valid boxes of each image in its pixels, and their places among twenty."""
    rows = [np.flatnonzero(own[:, -1]).tolist() for own in table]
    pairs = zip(table, rows, strict=True)
    return tuple(torch.from_numpy(own[kept, :4] * SIDE).float() for own, kept in pairs), rows


def test_clipself_learns_from_a_batch_as_the_original_does(
    eva: EvaClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = golden(SELF)
    boxes, rows = boxes_and_rows(expected["normed_boxes"])
    first = 300_000 * (seed() + 1)
    crops = [
        pixels(224, 224, first + 20 * image + row) for image, own in enumerate(rows) for row in own
    ]
    batch = CropBatch(images(), boxes, torch.stack(crops))
    learner = ClipSelfLearner(eva, deepcopy(eva), ClipSelfTraining())
    student, teacher = learner.region_vectors(batch), learner.teacher_vectors(batch.crops)
    check(SELF, "student", student.detach(), expected["student"], rtol=FEATURES)
    check(SELF, "teacher", teacher, expected["teacher"], rtol=FEATURES)
    monkeypatch.setattr(learner, "region_vectors", lambda _: student)
    monkeypatch.setattr(learner, "teacher_vectors", lambda _: teacher)
    loss = learner(batch)["cosine"].mean()
    check(SELF, "loss_cosine", loss.detach(), expected["loss_cosine"], rtol=LOSS)
    loss.backward()
    scale = logit_scale_of(eva).detach().exp()
    check(SELF, "logit_scale", scale, expected["logit_scale"], rtol=1e-6)
    for name in expected:
        kind, _, parameter = name.partition(".")
        if kind == "gradstat":
            (own,) = eva_tensors({parameter: torch.zeros(0)}, source="the list of gradients")
            gradient = eva.clip.get_parameter(own).grad
            assert gradient is not None
            check(SELF, name, stats(gradient), expected[name], rtol=GRADIENTS)
    without = {name for name, own in eva.clip.named_parameters() if own.grad is None}
    assert {name for name in without if "blocks.11" in name and "visual" in name} == {
        f"visual.blocks.11.attn.{part}"
        for part in ("q_proj.bias", "q_proj.weight", "k_proj.weight")
    }
    eva.zero_grad(set_to_none=True)


def test_the_baseline_loses_what_the_original_loses(eva: EvaClip) -> None:
    expected = golden(PSEUDO)
    boxes, rows = boxes_and_rows(expected["boxes"])
    labels = torch.cat(
        [
            torch.from_numpy(own[kept, 4]).long()
            for own, kept in zip(expected["boxes"], rows, strict=True)
        ]
    )
    nouns = torch.from_numpy(
        np.array(stand_ins().values_for("regionclip_nouns.weight", (300, 512), seed()))
    )
    check(PSEUDO, "noun_stats", stats(nouns), expected["noun_stats"], rtol=1e-6)
    learner = PseudoLabelLearner(eva, nouns, PseudoLabelTraining())
    with torch.no_grad():
        vectors = learner.region_vectors(images().unbind(), boxes)
        loss = learner.loss_of(vectors, labels, torch.from_numpy(expected["appeared"])).mean()
    check(PSEUDO, "loss", loss, expected["loss"], rtol=LOSS)
    scale = logit_scale_of(eva).detach().exp()
    check(PSEUDO, "temp", scale, expected["temp"], rtol=1e-6)
    # all that occur are among those drawn, and as many as are asked for
    assert set(labels.tolist()) <= set(expected["appeared"].tolist())
    assert len(expected["appeared"]) == learner.config.classes_per_step
