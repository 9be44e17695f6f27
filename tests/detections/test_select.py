import math
from typing import Any

import jaxtyping
import pytest
import torch
from torch import Tensor

from regionclip.detections.select import Selection, SelectionOptions, select_detections

SIZE_HW = (100, 200)
BOXES = torch.tensor([[0.0, 0, 30, 30], [2, 0, 32, 30], [100, 50, 250, 90]])
SCORES = torch.tensor([[0.9, 0.2], [0.8, 0.7], [0.01, 0.6]])


def select(
    boxes: Tensor = BOXES,
    scores: Tensor = SCORES,
    *,
    class_scores: Tensor | None = None,
    **options: Any,
) -> Selection:
    return select_detections(
        boxes,
        scores,
        class_scores=scores if class_scores is None else class_scores,
        size_hw=SIZE_HW,
        options=SelectionOptions(**options),
    )


def pairs(selection: Selection) -> list[tuple[int, int]]:
    return list(zip(selection.region_index.tolist(), selection.labels.tolist(), strict=True))


def test_selection_matches_a_case_worked_out_by_hand() -> None:
    # Region 1 is suppressed by region 0 in class 0, region 0 by region 1 in class 1.
    found = select()
    assert pairs(found) == [(0, 0), (1, 1), (2, 1)]
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.6])
    assert found.boxes.tolist() == [[0, 0, 30, 30], [2, 0, 32, 30], [100, 50, 200, 90]]


def test_whole_boxes_overlap_outside_the_image_too() -> None:
    # clipped at 200 both are 20 wide and overlap by all of it; whole they share 20 of 100
    boxes = torch.tensor([[180.0, 0, 200, 30], [180, 0, 280, 30]])
    scores = torch.tensor([[0.9], [0.8]])
    assert pairs(select(boxes, scores)) == [(0, 0)]
    whole = select(boxes, scores, nms_boxes="whole")
    assert pairs(whole) == [(0, 0), (1, 0)]
    assert torch.equal(whole.boxes, boxes)


def test_a_score_must_exceed_the_least() -> None:
    scores = torch.tensor([[0.25, 0.5]])
    assert pairs(select(BOXES[:1], scores, min_score=0.25)) == [(0, 1)]
    assert pairs(select(BOXES[:1], scores, min_score=0.24)) == [(0, 1), (0, 0)]


def test_the_best_of_all_classes_are_kept() -> None:
    assert pairs(select(max_detections=2)) == [(0, 0), (1, 1)]
    assert pairs(select(max_detections=1, nms="soft_gaussian")) == [(0, 0)]


def test_soft_nms_lowers_what_hard_nms_drops() -> None:
    overlap = 28 / 32
    found = select(nms="soft_gaussian", soft_nms_sigma=2.0)
    scores = dict(zip(pairs(found), found.scores.tolist(), strict=True))
    factor = math.exp(-(overlap**2) / 2)
    assert scores == pytest.approx(
        {(0, 0): 0.9, (1, 1): 0.7, (2, 1): 0.6, (1, 0): 0.8 * factor, (0, 1): 0.2 * factor}
    )
    found = select(nms="soft_linear")
    scores = dict(zip(pairs(found), found.scores.tolist(), strict=True))
    assert scores[1, 0] == pytest.approx(0.8 * (1 - overlap))
    assert pairs(select(nms="soft_hard")) == pairs(select())
    assert len(select(nms="soft_gaussian", soft_nms_sigma=2.0, soft_nms_prune=0.61).scores) == 2


def test_the_class_score_is_reported_in_the_fused_order() -> None:
    class_scores = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    found = select(class_scores=class_scores, reported_score="class")
    assert pairs(found) == pairs(select())
    assert found.scores.tolist() == pytest.approx([0.1, 0.4, 0.6])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_region_that_is_not_finite_is_left_out_and_still_counted(bad: float) -> None:
    """The original counts after leaving out, and so would answer 0 and 1 here (spec T6)."""
    boxes = torch.cat([BOXES[:1], BOXES])
    scores = torch.cat([torch.tensor([[bad, 0.99]]), SCORES])
    assert pairs(select(boxes, scores)) == [(1, 0), (2, 1), (3, 1)]
    boxes = torch.cat([torch.tensor([[0.0, bad, 30, 30]]), BOXES])
    scores = torch.cat([torch.tensor([[0.99, 0.99]]), SCORES])
    assert pairs(select(boxes, scores)) == [(1, 0), (2, 1), (3, 1)]


@pytest.mark.parametrize("nms", ["hard", "soft_gaussian"])
def test_the_order_of_the_regions_does_not_matter(nms: str) -> None:
    generator = torch.Generator().manual_seed(0)
    corners = 80 * torch.rand(50, 2, generator=generator)
    boxes = torch.cat([corners, corners + 30], dim=1)
    scores = torch.rand(50, 6, generator=generator)
    order = torch.randperm(50, generator=generator)
    found = select(boxes, scores, nms=nms)
    shuffled = select(boxes[order], scores[order], nms=nms)
    assert order[shuffled.region_index].equal(found.region_index)
    torch.testing.assert_close(shuffled.scores, found.scores)


@pytest.mark.parametrize("nms", ["hard", "soft_gaussian", "soft_linear", "soft_hard"])
@pytest.mark.parametrize(("num_regions", "num_classes"), [(0, 3), (3, 0), (0, 0), (1, 1)])
def test_no_regions_or_no_classes_select_nothing(
    nms: str, num_regions: int, num_classes: int
) -> None:
    scores = torch.full((num_regions, num_classes), 0.5)
    found = select(BOXES[:num_regions], scores, nms=nms)
    assert len(found.scores) == len(found.labels) == num_regions * num_classes
    assert found.boxes.shape == (num_regions * num_classes, 4)
    assert found.region_index.dtype == torch.long


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_score": -0.1}, "min_score must be finite and at least 0, got -0.1"),
        ({"min_score": math.nan}, "min_score must be finite"),
        ({"nms_iou": 1.5}, r"nms_iou must be in \[0, 1\], got 1.5"),
        ({"soft_nms_sigma": 0.0}, "soft_nms_sigma must be positive, got 0.0"),
        ({"soft_nms_prune": -1.0}, "soft_nms_prune must be at least 0, got -1.0"),
        ({"max_detections": 0}, "max_detections must be at least 1, got 0"),
        ({"nms": "soft"}, "unknown nms 'soft'; expected one of hard, soft_gaussian"),
        ({"nms_boxes": "cut"}, "unknown nms_boxes 'cut'; expected one of clipped, whole"),
        ({"reported_score": "raw"}, "unknown reported_score 'raw'; expected one of fused, class"),
        (
            {"reported_score": "class", "nms": "soft_linear"},
            "goes with nms='hard' only, got nms='soft_linear'",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only in tests are types checked before the options check themselves.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        SelectionOptions(**options)
