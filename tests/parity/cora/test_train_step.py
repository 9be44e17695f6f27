"""A training step of the localiser, from a file in the original's form: every intermediate result,
and the norm of every gradient, with whole and with split classes. Nothing is dropped out.
"""

from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from regionclip.losses import LossSum
from regionclip.methods.cora.learner import CoraLearner
from regionclip.methods.cora.model import ImageMaps, Localization
from regionclip.methods.cora.training_config import CoraTraining
from regionclip.methods.cora.weights import our_name

from .golden import check, check_sampled, detector, golden, maps_of_two, sampled, stats
from .learning import normalized_targets, outputs_of

pytestmark = pytest.mark.slow
architectures = pytest.mark.parametrize("architecture", ["RN50", "RN50x4"])
modes = pytest.mark.parametrize("mode", ["plain", "split"])


@dataclass(frozen=True, slots=True)
class Step:
    """One forward pass."""

    learner: CoraLearner
    maps: ImageMaps
    found: Localization
    encoded: list[Tensor]
    decoded: list[Tensor]


KEY_BIASES = ("kcontent_proj.bias", "kpos_proj.bias")
"""Of the decoder's attentions."""


def case_of(architecture: str) -> str:
    return f"{architecture.lower()}_train"


@cache
def seen(architecture: str) -> tuple[ImageMaps, Tensor]:
    """Maps of the images and vectors of the anchors, which no mode changes: the tower is frozen."""
    maps = maps_of_two(architecture)
    return maps, detector(architecture).anchor_features(maps)


@cache
def step_of(architecture: str, mode: str) -> Step:
    expected = golden(case_of(architecture))
    learner = CoraLearner(
        deepcopy(detector(architecture)),
        torch.from_numpy(expected["class_embeddings"]),
        CoraTraining(split_share=float(mode == "split")),
        numbers_of=lambda step, count: torch.from_numpy(expected["split_rand"]),
    ).eval()
    model, (maps, features) = learner.model, seen(architecture)
    with ExitStack() as stack:
        encoded = stack.enter_context(outputs_of(model.map_encoder.layers))
        decoded = stack.enter_context(outputs_of(model.decoder.layers))
        # as the model would compute them again, in every mode
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(model, "anchor_features", lambda maps: features)
        classes = learner.anchor_classes(maps, 0)
        found = model.localize(maps, classes, learner.class_embeddings)
    return Step(learner, maps, found, encoded, decoded)


def in_their_order(step: Step, queries: Tensor, architecture: str, mode: str) -> Tensor:
    """``(..., N, Q, d)`` in the order that the original had its queries in; see its README."""
    theirs = torch.from_numpy(golden(case_of(architecture))[f"{mode}_order"]).long()
    place_of_anchor = step.found.anchor_index.argsort(dim=1)
    places = place_of_anchor.gather(1, theirs)[..., None].expand(queries.shape)
    return queries.gather(-2, places).detach()


def losses_of(step: Step, architecture: str) -> dict[str, LossSum]:
    targets = normalized_targets(golden(case_of(architecture)), 2)
    return step.learner.losses(step.found, targets * (len(step.found.classes) // 2))


@modes
@architectures
def test_classes_of_anchors_are_the_originals(architecture: str, mode: str) -> None:
    case, step = case_of(architecture), step_of(architecture, mode)
    expected = golden(case)
    if mode == "plain":
        unit = F.normalize(seen(architecture)[1], dim=2)
        array = expected["plain_anchor_feat_sub"]
        check(case, "plain_anchor_feat_sub", unit[:, :, ::32], array)
    array = expected[f"{mode}_proposal_classes"]
    check(case, f"{mode}_proposal_classes", step.found.classes, array, rtol=0.0)
    # the same anchors look for each class; their order within it is arbitrary in the original
    theirs = torch.from_numpy(expected[f"{mode}_order"]).long()
    classes = torch.from_numpy(array).long()
    by_anchor = torch.zeros_like(classes).scatter(1, theirs, classes)
    ours = torch.zeros_like(classes).scatter(1, step.found.anchor_index, step.found.classes)
    check(case, f"{mode}_order", ours, by_anchor, rtol=0.0)


@architectures
def test_projections_and_encoder_are_the_originals(architecture: str) -> None:
    case, step = case_of(architecture), step_of(architecture, "plain")
    model = step.learner.model
    check_sampled(case, "plain_input_proj", model.input_proj(step.maps.layer3))
    text = model.text_proj(step.learner.class_embeddings).detach()
    check(case, "plain_text_proj", text, golden(case)["plain_text_proj"])
    # cells of padding are placed by a division of about zero by about zero, and nobody sees them
    inside = ~step.maps.layer3_padding.flatten(1).T[..., None]
    names = ["enc0", "enc1", "enc2", "memory"]
    for name, output in zip(names, [*step.encoded, step.encoded[-1]], strict=True):
        expected = golden(case)[f"plain_{name}_sub"]
        ours = output.detach().transpose(0, 1)
        kept = sampled(inside.expand_as(ours), expected.size)
        own = sampled(ours, expected.size)
        assert kept.mean() > 0.8
        check(case, f"plain_{name}_sub[inside]", own[kept], expected[kept])


@architectures
def test_decoder_layers_are_the_originals(architecture: str) -> None:
    case, step = case_of(architecture), step_of(architecture, "plain")
    expected = golden(case)
    for number, output in enumerate(step.decoded):
        own = in_their_order(step, output, architecture, "plain")
        check_sampled(case, f"plain_declayer{number}", own.transpose(0, 1))
    hidden = in_their_order(step, step.found.decoded.hidden, architecture, "plain")
    samples = np.stack([sampled(each, 8192) for each in hidden])
    check(case, "plain_hs_sub", samples, expected["plain_hs_sub"])
    numbers = np.stack([stats(each) for each in hidden])
    check(case, "plain_hs_stats", numbers, expected["plain_hs_stats"])
    references = in_their_order(step, step.found.decoded.references, architecture, "plain")
    array = expected["plain_references"]
    check(case, "plain_references", references, array, rtol=0.0, atol=1e-5)


@modes
@architectures
def test_boxes_and_objectness_are_the_originals(architecture: str, mode: str) -> None:
    case, step = case_of(architecture), step_of(architecture, mode)
    expected = golden(case)
    boxes = in_their_order(step, step.found.boxes, architecture, mode)
    name = f"{mode}_boxes_per_layer"
    check(case, name, boxes, expected[name], rtol=0.0, atol=1e-5)
    logits = in_their_order(step, step.found.objectness[..., None], architecture, mode)[..., 0]
    name = f"{mode}_objectness_per_layer"
    check(case, name, logits, expected[name])


@modes
@architectures
def test_the_loss_and_every_gradient_are_the_originals(architecture: str, mode: str) -> None:
    case, step = case_of(architecture), step_of(architecture, mode)
    expected = golden(case)
    total = torch.stack([loss.mean() for loss in losses_of(step, architecture).values()]).sum()
    check(case, f"{mode}_total", total.item(), expected[f"{mode}_total"])
    model = step.learner.model
    model.zero_grad()
    total.backward()
    own = {name: each for name, each in model.named_parameters() if each.requires_grad}
    names = [str(name) for name in expected[f"{mode}_grad_names"]]
    place = {our_name(name): number for number, name in enumerate(names)}
    numbers = sorted(place[name] for name in own)
    check(case, f"{mode}_grad_names", numbers, range(len(names)), rtol=0.0)
    without = [place[name] for name, each in own.items() if each.grad is None]
    array = f"{mode}_no_grad_names"
    check(case, array, without, expected[array], rtol=0.0)
    norms = torch.stack([gradient_norm(own[str(our_name(name))]) for name in names])
    theirs = torch.from_numpy(expected[f"{mode}_grad_norms"])
    array = f"{mode}_total_grad_norm"
    check(case, array, norms.norm().item(), expected[array], rtol=1e-4)
    # what is added to all keys cancels in the softmax: its gradient is rounding alone
    cancels = torch.tensor([name.endswith(KEY_BIASES) for name in names])
    assert torch.maximum(norms, theirs)[cancels].max() < 1e-9 * norms.norm()
    # each by its own size: they differ by orders of magnitude
    ratios = norms[~cancels] / theirs[~cancels]
    check(case, f"{mode}_grad_norms", ratios, torch.ones(len(ratios)), rtol=5e-3)


def gradient_norm(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad.double().norm()
