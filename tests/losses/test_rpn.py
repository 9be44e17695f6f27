import math
from collections.abc import Sequence

import pytest
import torch

from regionclip.detections.box_coder import encode_boxes
from regionclip.losses import RpnLoss, RpnLossOptions
from regionclip.losses import rpn_loss as rpn_loss_of
from regionclip.losses.rpn import BACKGROUND, IGNORED
from regionclip.losses.rpn import match_anchors as match_anchors_of

OPTIONS = RpnLossOptions()
FASTER_RCNN = RpnLossOptions(smooth_l1_beta=1 / 9, boxes_over="foreground")
ANCHORS = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 5], [50.0, 50, 60, 60], [90.0, 90, 99, 99]])
BOX = torch.tensor([[0.0, 0, 10, 10]])


def match_anchors(anchors: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    return match_anchors_of(anchors, boxes, OPTIONS)


def rpn_loss(
    logits: torch.Tensor,
    deltas: torch.Tensor,
    boxes: Sequence[torch.Tensor],
    options: RpnLossOptions = OPTIONS,
) -> RpnLoss:
    permutations = [torch.arange] * len(boxes)
    return rpn_loss_of(logits, deltas, ANCHORS, boxes, permutations=permutations, options=options)


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


def test_detectron2s_thresholds_are_the_defaults() -> None:
    # overlaps 0.7, 0.65, 0.3, 0.29
    anchors = torch.tensor([[0.0, 0, 10, side] for side in (7, 6.5, 3, 2.9)])
    anchors = torch.cat([anchors, BOX])  # what the box would take otherwise
    assert match_anchors(anchors, BOX).tolist() == [0, IGNORED, IGNORED, BACKGROUND, 0]


def test_at_most_half_of_the_sampled_anchors_are_on_objects() -> None:
    # every anchor beside the object is background, and there are few: 2 of each enter
    logits = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    options = RpnLossOptions(foreground_iou=0.4, anchors_per_image=2)
    loss = rpn_loss(logits, torch.zeros(1, 4, 4), [BOX], options)
    # one on the object (logit 1) and one beside it (logit 3)
    expected = math.log1p(math.exp(-1)) + math.log1p(math.exp(3))
    assert loss.objectness.total.item() == pytest.approx(expected)
    assert loss.objectness.count.item() == 2.0


def test_perfect_offsets_cost_nothing_and_unsure_anchors_log_two() -> None:
    box = torch.tensor([[1.0, 0, 10, 10]])
    deltas = torch.zeros(1, 4, 4)
    deltas[0, 0] = encode_boxes(box, ANCHORS[:1], weights=(1.0, 1.0, 1.0, 1.0))
    loss = rpn_loss(torch.zeros(1, 4), deltas, [box])
    assert loss.boxes.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert loss.objectness.mean().item() == pytest.approx(math.log(2))


def test_offsets_cost_their_distance_over_all_sampled_anchors() -> None:
    deltas = torch.zeros(1, 4, 4)
    deltas[0, 0, 0] = 1.0
    # one anchor on the object, two beside it, one in between that is left out
    loss = rpn_loss(torch.zeros(1, 4), deltas, [BOX])
    assert loss.boxes.total.item() == pytest.approx(1.0)
    assert loss.boxes.count.item() == 3.0


def test_offsets_may_be_smoothed_and_averaged_over_objects_anchors() -> None:
    deltas = torch.zeros(1, 4, 4)
    deltas[0, 0, 0] = 1.0
    # smooth L1 with its bend at 1/9: 1 - 1/18
    loss = rpn_loss(torch.zeros(1, 4), deltas, [BOX], FASTER_RCNN)
    assert loss.boxes.mean().item() == pytest.approx(1 - 1 / 18)


@pytest.mark.parametrize("options", [OPTIONS, FASTER_RCNN])
def test_an_image_without_boxes_teaches_background_only(options: RpnLossOptions) -> None:
    deltas = torch.zeros(1, 4, 4, requires_grad=True)
    logits = torch.full((1, 4), -20.0, requires_grad=True)
    loss = rpn_loss(logits, deltas, [torch.zeros(0, 4)], options)
    (loss.objectness.mean() + loss.boxes.mean()).backward()
    assert loss.boxes.mean().item() == 0.0
    assert loss.objectness.mean().item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"foreground_iou": 0.2}, "must be in .* in that order, got 0.3 and 0.2"),
        ({"anchors_per_image": 0}, "anchors_per_image must be at least 1"),
        ({"foreground_share": 1.5}, r"foreground_share in \(0, 1\], got 256 and 1.5"),
        ({"smooth_l1_beta": -1.0}, "smooth_l1_beta must not be negative, got -1.0"),
    ],
)
def test_options_that_do_not_fit_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RpnLossOptions(**settings)  # type: ignore[arg-type]
