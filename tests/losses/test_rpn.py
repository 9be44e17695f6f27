import math

import pytest
import torch

from regionclip.detections.box_coder import encode_boxes
from regionclip.losses import rpn_loss
from regionclip.losses.rpn import BACKGROUND, IGNORED, NUM_SAMPLED, _sample, match_anchors

ANCHORS = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 5], [50.0, 50, 60, 60], [90.0, 90, 99, 99]])
BOX = torch.tensor([[0.0, 0, 10, 10]])


def test_anchors_match_by_their_overlap() -> None:
    # overlaps 1, 0.5, 0, 0
    assert match_anchors(ANCHORS, BOX).tolist() == [0, IGNORED, BACKGROUND, BACKGROUND]


def test_a_box_that_no_anchor_fits_gets_the_best_one() -> None:
    box = torch.tensor([[50.0, 50, 54, 54]])
    assert match_anchors(ANCHORS, box).tolist() == [BACKGROUND, BACKGROUND, 0, BACKGROUND]


def test_a_box_beside_all_anchors_gets_none() -> None:
    box = torch.tensor([[200.0, 200, 220, 220]])
    assert match_anchors(ANCHORS, box).tolist() == [BACKGROUND] * 4


def test_without_boxes_all_is_background() -> None:
    assert match_anchors(ANCHORS, torch.zeros(0, 4)).tolist() == [BACKGROUND] * 4


def test_at_most_half_of_the_sampled_anchors_are_on_objects() -> None:
    match = torch.cat([torch.zeros(500).long(), torch.full((500,), BACKGROUND)])
    positive, negative = _sample(match, None)
    assert len(positive) == len(negative) == NUM_SAMPLED // 2
    assert (match[positive] == 0).all()
    assert (match[negative] == BACKGROUND).all()


def test_perfect_offsets_cost_nothing_and_unsure_anchors_log_two() -> None:
    box = torch.tensor([[1.0, 0, 10, 10]])
    deltas = torch.zeros(1, 4, 4)
    deltas[0, 0] = encode_boxes(box, ANCHORS[:1], weights=(1.0, 1.0, 1.0, 1.0))
    loss = rpn_loss(torch.zeros(1, 4), deltas, ANCHORS, [box])
    assert loss.boxes.item() == pytest.approx(0.0, abs=1e-6)
    assert loss.objectness.item() == pytest.approx(math.log(2))


def test_offsets_cost_their_distance() -> None:
    deltas = torch.zeros(1, 4, 4)
    deltas[0, 0, 0] = 1.0
    # smooth L1 with its bend at 1/9: 1 - 1/18
    assert rpn_loss(torch.zeros(1, 4), deltas, ANCHORS, [BOX]).boxes.item() == pytest.approx(
        1 - 1 / 18
    )


def test_an_image_without_boxes_teaches_background_only() -> None:
    deltas = torch.zeros(1, 4, 4, requires_grad=True)
    logits = torch.full((1, 4), -20.0, requires_grad=True)
    loss = rpn_loss(logits, deltas, ANCHORS, [torch.zeros(0, 4)])
    (loss.objectness + loss.boxes).backward()
    assert loss.boxes.item() == 0.0
    assert loss.objectness.item() == pytest.approx(0.0, abs=1e-6)
