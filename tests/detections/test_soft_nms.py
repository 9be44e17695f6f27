import math
import time

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from regionclip.detections.soft_nms import SoftNmsDecay, soft_nms

DECAYS: tuple[SoftNmsDecay, ...] = ("gaussian", "linear", "hard")
SQUARE = [0.0, 0.0, 30.0, 30.0]
SHIFTED_THIRD = [10.0, 0.0, 40.0, 30.0]  # IoU with SQUARE exactly 1/2
FAR = [100.0, 100.0, 130.0, 130.0]
SAME_LABEL = torch.zeros(3, dtype=torch.long)


def crowd(num_boxes: int, num_labels: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corners = 100 * torch.rand(num_boxes, 2, generator=generator)
    sides = 20 + 60 * torch.rand(num_boxes, 2, generator=generator)
    boxes = torch.cat([corners, corners + sides], dim=1)
    scores = torch.rand(num_boxes, generator=generator)
    return boxes, scores, torch.randint(0, num_labels, (num_boxes,), generator=generator)


def one_by_one(
    boxes: Tensor, scores: Tensor, labels: Tensor, decay: SoftNmsDecay, prune_score: float
) -> tuple[list[int], list[float]]:
    """The paper's loop over all boxes: take the best, lower the others of its label, repeat."""
    current = {row: float(score) for row, score in enumerate(scores) if score > prune_score}
    overlaps = box_iou(boxes.double(), boxes.double()).tolist()
    taken, taken_scores = [], []
    while current:
        best = max(current, key=lambda row: current[row])
        taken.append(best)
        taken_scores.append(current.pop(best))
        for row in list(current):
            if labels[row] != labels[best]:
                continue
            overlap = overlaps[best][row]
            if decay == "gaussian":
                current[row] *= math.exp(-(overlap**2) / 0.5)
            elif decay == "linear":
                current[row] *= 1 - overlap if overlap > 0.5 else 1
            else:
                current[row] *= 0 if overlap >= 0.5 else 1
            if current[row] <= prune_score:
                del current[row]
    return taken, taken_scores


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("gaussian", [(0, 0.9), (2, 0.7), (1, 0.8 * math.exp(-0.5))]),
        ("linear", [(0, 0.9), (1, 0.8), (2, 0.7)]),  # lowers above the threshold only
        ("hard", [(0, 0.9), (2, 0.7)]),  # drops at the threshold
    ],
)
def test_an_overlap_of_a_half_is_treated_as_worked_out_by_hand(
    decay: SoftNmsDecay, expected: list[tuple[int, float]]
) -> None:
    boxes = torch.tensor([SQUARE, SHIFTED_THIRD, FAR])
    kept, scores = soft_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), SAME_LABEL, decay=decay)
    assert kept.tolist() == [row for row, _ in expected]
    assert scores.tolist() == pytest.approx([score for _, score in expected])


def test_linear_lowers_by_the_overlap() -> None:
    boxes = torch.tensor([SQUARE, SHIFTED_THIRD, FAR])
    _, scores = soft_nms(
        boxes, torch.tensor([0.9, 0.8, 0.7]), SAME_LABEL, decay="linear", nms_iou=0.4
    )
    assert scores.tolist() == pytest.approx([0.9, 0.7, 0.4])


def test_sigma_is_the_width_of_gaussian() -> None:
    boxes = torch.tensor([SQUARE, SHIFTED_THIRD, FAR])
    _, scores = soft_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), SAME_LABEL, sigma=0.25)
    assert scores[2].item() == pytest.approx(0.8 * math.exp(-1))


def test_a_box_lowered_to_the_prune_score_is_dropped() -> None:
    boxes = torch.tensor([SQUARE, SHIFTED_THIRD, FAR])
    scores = torch.tensor([0.9, 0.8, 0.7])
    lowered = 0.8 * math.exp(-0.5)
    kept, _ = soft_nms(boxes, scores, SAME_LABEL, prune_score=lowered - 0.01)
    assert sorted(kept.tolist()) == [0, 1, 2]
    kept, _ = soft_nms(boxes, scores, SAME_LABEL, prune_score=lowered + 0.01)
    assert sorted(kept.tolist()) == [0, 2]
    kept, _ = soft_nms(boxes, scores, SAME_LABEL, prune_score=0.9)
    assert kept.tolist() == []


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("num_labels", [1, 5, 150])
def test_it_equals_the_loop_over_boxes(decay: SoftNmsDecay, num_labels: int) -> None:
    boxes, scores, labels = crowd(150, num_labels)
    expected, expected_scores = one_by_one(boxes, scores, labels, decay, 0.01)
    kept, kept_scores = soft_nms(boxes, scores, labels, decay=decay, prune_score=0.01)
    assert kept.tolist() == expected
    assert kept_scores.tolist() == pytest.approx(expected_scores, rel=1e-5)


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("max_kept", [1, 7, 60, 1000])
def test_a_limit_keeps_the_first_of_what_no_limit_keeps(decay: SoftNmsDecay, max_kept: int) -> None:
    boxes, scores, labels = crowd(400, 12)
    every, every_scores = soft_nms(boxes, scores, labels, decay=decay)
    kept, kept_scores = soft_nms(boxes, scores, labels, decay=decay, max_kept=max_kept)
    assert kept.equal(every[:max_kept])
    assert kept_scores.equal(every_scores[:max_kept])


def test_the_order_of_the_boxes_does_not_matter() -> None:
    boxes, scores, labels = crowd(200, 4)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    kept, kept_scores = soft_nms(boxes, scores, labels)
    shuffled, shuffled_scores = soft_nms(boxes[order], scores[order], labels[order])
    assert order[shuffled].equal(kept)
    torch.testing.assert_close(shuffled_scores, kept_scores)


def test_of_equal_boxes_and_scores_each_is_taken_once() -> None:
    boxes = torch.tensor([SQUARE, SQUARE, SQUARE])
    kept, scores = soft_nms(boxes, torch.full((3,), 0.5), SAME_LABEL)
    assert kept.tolist() == [0, 1, 2]
    assert scores.tolist() == pytest.approx([0.5, 0.5 * math.exp(-2), 0.5 * math.exp(-4)])


def test_boxes_without_area_neither_lower_nor_vanish() -> None:
    boxes = torch.tensor([[5.0, 5, 5, 5], [5, 5, 5, 5], SQUARE])
    kept, scores = soft_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), SAME_LABEL)
    assert kept.tolist() == [0, 1, 2]
    assert scores.tolist() == pytest.approx([0.9, 0.8, 0.7])


def test_no_boxes_keep_none() -> None:
    kept, scores = soft_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long))
    assert kept.shape == scores.shape == (0,)
    assert kept.dtype == torch.long


def test_twenty_thousand_pairs_take_a_moment() -> None:
    """The original's loop takes 11 s; this about 10 ms."""
    boxes, scores, labels = crowd(20_000, 65)
    start = time.perf_counter()
    kept, _ = soft_nms(boxes, 0.02 + 0.05 * scores, labels, max_kept=100)
    assert len(kept) == 100
    assert time.perf_counter() - start < 3
