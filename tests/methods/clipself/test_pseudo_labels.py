from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from regionclip.encoders.unlocking import logit_scale_of
from regionclip.methods.clipself.pseudo_labels import PseudoLabelLearner
from regionclip.methods.clipself.training_config import PseudoLabelTraining
from regionclip.structures import DetectionBatch, Targets
from tests.tiny_dense import tiny_dense

CONFIG = PseudoLabelTraining(unlocked_groups=1, classes_per_step=5)
NOUNS = torch.randn(9, 10, generator=torch.Generator().manual_seed(1))


def batch_of(labels: list[list[int]], *, step: int = 0) -> DetectionBatch:
    images = torch.rand(len(labels), 3, 64, 64, generator=torch.Generator().manual_seed(0))
    box = torch.tensor([[4.0, 4, 60, 50]])
    targets = tuple(Targets(box.repeat(len(own), 1), torch.tensor(own).long()) for own in labels)
    return DetectionBatch(images.unbind(), targets, tuple(range(len(labels))), step)


def test_all_names_are_compared_where_no_more_are_asked_for() -> None:
    encoder = tiny_dense()
    learner = PseudoLabelLearner(encoder, NOUNS, replace(CONFIG, classes_per_step=9))
    batch = batch_of([[3], [8, 0]])
    with torch.no_grad():
        vectors = F.normalize(
            learner.region_vectors(batch.images, [own.boxes for own in batch.targets]), dim=1
        )
        logits = logit_scale_of(encoder).exp() * vectors @ F.normalize(NOUNS, dim=1).T
        right = F.one_hot(torch.tensor([3, 8, 0]), 9).float()
        expected = F.binary_cross_entropy_with_logits(logits, right, reduction="sum") / 3
        loss = learner(batch)["classes"]
    assert loss.count == 3
    torch.testing.assert_close(loss.mean(), expected)


def test_names_are_drawn_anew_in_each_step_and_alike_for_the_same() -> None:
    learner = PseudoLabelLearner(tiny_dense(), NOUNS, CONFIG)
    with torch.no_grad():
        costs = [learner(batch_of([[3]], step=step))["classes"].mean().item() for step in range(6)]
        again = learner(batch_of([[3]], step=0))["classes"].mean().item()
        other = PseudoLabelLearner(tiny_dense(), NOUNS, CONFIG, seed=1)
        others = [other(batch_of([[3]], step=step))["classes"].mean().item() for step in range(6)]
    assert again == costs[0]
    assert len({round(each, 4) for each in costs}) > 1
    assert costs != others


def test_the_scale_and_the_first_blocks_stay_and_no_box_is_fine() -> None:
    encoder = tiny_dense()
    learner = PseudoLabelLearner(encoder, NOUNS, CONFIG)
    learner(batch_of([[2]]))["classes"].total.backward()
    assert logit_scale_of(encoder).grad is None
    learned = [name for name, each in encoder.named_parameters() if each.grad is not None]
    assert learned
    assert all("resblocks.1." in name for name in learned)
    nothing = learner(batch_of([[], []]))["classes"]
    nothing.total.backward()
    assert nothing.mean().item() == 0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="rows of names have 7 numbers, vectors of regions 10"):
        PseudoLabelLearner(tiny_dense(), NOUNS[:, :7], CONFIG)
    with pytest.raises(ValueError, match="label"):
        PseudoLabelLearner(tiny_dense(), NOUNS, CONFIG)(batch_of([[9]]))
    with pytest.raises(ValueError, match="unlocked_groups and classes_per_step must be positive"):
        PseudoLabelTraining(classes_per_step=0)
