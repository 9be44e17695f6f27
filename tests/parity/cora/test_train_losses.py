"""What queries are paired with, what they cost, and when classes are split.

Boxes, objectness and classes are the stored ones of a training step, so that nothing but the
pairing and the losses is compared. Where classes are split, every image has two rows.
"""

import json
from itertools import product

import numpy as np
import pytest
import torch

from regionclip.losses import LossSum
from regionclip.methods.cora.class_split import is_split_step
from regionclip.methods.cora.decoder import DecodedQueries
from regionclip.methods.cora.learner import CoraLearner
from regionclip.methods.cora.model import Localization
from regionclip.methods.cora.training_config import CoraTraining
from regionclip.structures import Targets
from tests.cora_files import TINY_CORA, tiny_cora
from tests.parity.comparing import parity_folder

from .golden import check, golden
from .learning import normalized_targets

CASES = ("rn50_train", "rn50x4_train")
MODES = ("plain", "split")
NUM_LAYERS = 6
LOSSES = {"objectness": "loss_ce", "boxes": "loss_bbox", "giou": "loss_giou"}
WEIGHTS = {"objectness": 2.0, "boxes": 5.0, "giou": 2.0}
steps = pytest.mark.parametrize(("case", "mode"), list(product(CASES, MODES)))


@pytest.fixture(scope="module")
def learner() -> CoraLearner:
    """Neither pairing nor losses look at its weights."""
    return CoraLearner(tiny_cora(), torch.ones(1, TINY_CORA.encoder.embed_dim), CoraTraining())


def stored(case: str, mode: str) -> Localization:
    expected = golden(case)
    boxes = torch.from_numpy(expected[f"{mode}_boxes_per_layer"])
    return Localization(
        boxes=boxes,
        objectness=torch.from_numpy(expected[f"{mode}_objectness_per_layer"]),
        classes=torch.from_numpy(expected[f"{mode}_proposal_classes"]).long(),
        anchor_index=torch.from_numpy(expected[f"{mode}_order"]).long(),
        decoded=DecodedQueries(boxes[..., :1], boxes, boxes),
    )


def targets(case: str, mode: str) -> list[Targets]:
    return normalized_targets(golden(case), 2) * (2 if mode == "split" else 1)


@steps
def test_queries_are_paired_with_the_originals_objects(
    learner: CoraLearner, case: str, mode: str
) -> None:
    expected = golden(case)
    found = learner.matches(stored(case, mode), targets(case, mode))
    for image, own in enumerate(found):
        for layer, match in enumerate(own):
            name = "last" if layer == NUM_LAYERS - 1 else f"aux{layer}"
            array = f"{mode}_match_{name}_img{image}"
            pairs = torch.stack([match.query_index, match.target_index])
            check(case, array, pairs, expected[array], rtol=0.0)


@steps
def test_every_loss_and_their_sum_are_the_originals(
    learner: CoraLearner, case: str, mode: str
) -> None:
    expected = golden(case)
    losses = learner.losses(stored(case, mode), targets(case, mode))
    assert len(losses) == 3 * NUM_LAYERS
    for name, loss in losses.items():
        kind, _, layer = name.partition("_")
        array = f"{mode}_loss_{LOSSES[kind]}" + (f"_{layer}" if layer else "")
        check(case, array, loss.mean().item() / WEIGHTS[kind], expected[array], rtol=1e-5)
    check(case, f"{mode}_total", total_of(losses), expected[f"{mode}_total"], rtol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_the_share_of_objects_that_are_found_is_the_originals(
    learner: CoraLearner, case: str
) -> None:
    expected, wanted = golden(case), targets(case, "plain")
    losses = learner.losses(stored(case, "plain"), wanted)
    share = losses["boxes"].count.item() / sum(len(own) for own in wanted)
    check(case, "plain_loss_matched_gt", share, expected["plain_loss_matched_gt"], rtol=1e-6)


def test_the_originals_steps_are_split() -> None:
    path = parity_folder() / "cora" / "goldens" / "split_class_iterations_first400.json"
    if not path.is_file():
        pytest.skip(f"no golden numbers: {path.name} is not in {path.parent}")
    ours = [step for step in range(400) if is_split_step(step, share=0.2)]
    assert ours == json.loads(path.read_text())


def total_of(losses: dict[str, LossSum]) -> np.ndarray:
    return np.sum([loss.mean().item() for loss in losses.values()])
