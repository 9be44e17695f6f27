import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou, nms

from regionclip.detections.nms import batched_nms, exact_device

# Of the unit square's neighbours 1 wide: shifted by s, the IoU is (1 - s) / (1 + s).
SQUARE = [0.0, 0.0, 30.0, 30.0]
SHIFTED_THIRD = [10.0, 0.0, 40.0, 30.0]  # IoU with SQUARE exactly 1/2
SHIFTED_LESS = [9.0, 0.0, 39.0, 30.0]  # IoU with SQUARE 21/39


def crowd(num_boxes: int, num_labels: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes that overlap a lot, with equal scores among them."""
    generator = torch.Generator().manual_seed(seed)
    corners = 300 * torch.rand(num_boxes, 2, generator=generator)
    sides = 40 + 80 * torch.rand(num_boxes, 2, generator=generator)
    scores = torch.randint(0, num_boxes, (num_boxes,), generator=generator) / num_boxes
    labels = torch.randint(0, num_labels, (num_boxes,), generator=generator)
    return torch.cat([corners, corners + sides], dim=1), scores, labels


def label_by_label(boxes: Tensor, scores: Tensor, labels: Tensor, nms_iou: float) -> list[int]:
    """torchvision's NMS on the boxes of each label alone."""
    kept = []
    for label in labels.unique():
        rows = (labels == label).nonzero()[:, 0]
        kept += rows[nms(boxes[rows], scores[rows], nms_iou)].tolist()
    return sorted(kept, key=lambda row: (-float(scores[row]), row))


def test_only_an_overlap_above_the_threshold_suppresses() -> None:
    boxes = torch.tensor([SQUARE, SHIFTED_THIRD, SHIFTED_LESS])
    scores, labels = torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.long)
    assert box_iou(boxes[:1], boxes[1:2]).item() == 0.5
    assert batched_nms(boxes, scores, labels, nms_iou=0.5).tolist() == [0, 1]
    assert batched_nms(boxes, scores, labels, nms_iou=0.49).tolist() == [0]


def test_other_labels_do_not_suppress() -> None:
    boxes = torch.tensor([SQUARE, SQUARE, SQUARE])
    scores, labels = torch.tensor([0.1, 0.9, 0.5]), torch.tensor([7, 3, 7])
    assert batched_nms(boxes, scores, labels, nms_iou=0.5).tolist() == [1, 2]


def test_equal_scores_stay_in_row_order() -> None:
    boxes = torch.tensor([SQUARE, SQUARE, SQUARE])
    kept = batched_nms(boxes, torch.ones(3), torch.tensor([2, 1, 2]), nms_iou=0.5)
    assert kept.tolist() == [0, 1]


@pytest.mark.parametrize("nms_iou", [0.3, 0.5, 0.9])
def test_it_keeps_what_torchvision_keeps_label_by_label(nms_iou: float) -> None:
    boxes, scores, labels = crowd(600, 20)
    kept = batched_nms(boxes, scores, labels, nms_iou=nms_iou)
    assert kept.tolist() == label_by_label(boxes, scores, labels, nms_iou)


@pytest.mark.parametrize("max_kept", [1, 3, 20, 10_000])
def test_a_limit_keeps_the_first_of_what_no_limit_keeps(max_kept: int) -> None:
    boxes, scores, labels = crowd(600, 3)
    every = batched_nms(boxes, scores, labels, nms_iou=0.3)
    limited = batched_nms(boxes, scores, labels, nms_iou=0.3, max_kept=max_kept)
    assert limited.equal(every[:max_kept])


def test_a_limit_is_reached_beyond_any_number_of_duplicates() -> None:
    boxes = torch.tensor([SQUARE] * 500 + [[100.0, 0, 130, 30]])
    scores, labels = torch.linspace(1, 0.1, 501), torch.zeros(501, dtype=torch.long)
    assert batched_nms(boxes, scores, labels, nms_iou=0.5, max_kept=2).tolist() == [0, 500]
    assert batched_nms(boxes, scores, labels, nms_iou=0.5, max_kept=1).tolist() == [0]


def test_a_label_far_down_the_list_is_treated_as_the_first() -> None:
    """In float32 a shift of 1202 images rounds corners to eighths of a pixel."""
    boxes, scores, _ = crowd(300, 1)
    boxes = boxes * (1333 / 420)
    kept = batched_nms(boxes, scores, torch.full((300,), 1202), nms_iou=0.5)
    assert kept.equal(nms(boxes, scores, 0.5))
    boxes = torch.tensor([[0.1, 0.1, 30.1, 30.1], [10.1, 0.1, 40.1, 30.1], [900, 900, 1333, 1333]])
    first, last = (
        batched_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.full((3,), label), nms_iou=0.5)
        for label in (0, 1202)
    )
    assert first.equal(last)


def test_negative_coordinates_keep_labels_apart() -> None:
    boxes = torch.tensor([[-300.0, -300, 30, 30], [-300, -300, 30, 30], [0, 0, 30, 30]])
    kept = batched_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 1, 1]), nms_iou=0.01)
    assert kept.tolist() == [0, 1, 2]


def test_no_boxes_keep_none() -> None:
    kept = batched_nms(
        torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long), nms_iou=0.5, max_kept=5
    )
    assert kept.shape == (0,)
    assert kept.dtype == torch.long


@pytest.mark.parametrize(
    ("device", "place"), [("cpu", "cpu"), ("cuda:1", "cuda:1"), ("mps", "cpu")]
)
def test_suppression_runs_where_there_is_float64(device: str, place: str) -> None:
    assert exact_device(torch.device(device)) == torch.device(place)
