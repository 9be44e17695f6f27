import math

import pytest
import torch

from regionclip.evaluation.proposals import evaluate_proposals
from regionclip.structures import Detections

from .made import BOX, ELSEWHERE, Box, dataset, found, objects


def boxes(count: int, *last: Box) -> Detections:
    """``count`` boxes in a corner of the image, best first, then ``last``."""
    corner = [[0.0, 0.0, 5.0, 5.0]] * count
    rows = torch.tensor([*corner, *map(list, last)]).reshape(-1, 4)
    scores = torch.linspace(1, 0.5, len(rows))
    return Detections(rows, scores, torch.zeros(len(rows), dtype=torch.int64), ("object",))


def test_recall_by_hand() -> None:
    # overlap 20 x 15 of 20 x 20: IoU 0.75, found at 0.50 to 0.75, which are 6 of 10
    near: Box = (10.0, 10.0, 30.0, 25.0)
    data = dataset([[("cat", BOX), ("dog", ELSEWHERE)], []])
    report = evaluate_proposals(data, [boxes(0, near), boxes(3)])
    assert report.metrics["ar_100"] == report.metrics["ar_1000"] == pytest.approx(0.6 / 2)
    assert report.metrics["recall50_100"] == 0.5
    # 400 square pixels are small, 900 too
    assert report.metrics["ar_small_100"] == pytest.approx(0.3)
    assert math.isnan(report.metrics["ar_large_1000"])
    assert (report.splits[0].num_images, report.splits[0].num_boxes) == (1, 2)


@pytest.mark.parametrize(("rank", "of_100", "of_1000"), [(99, 1, 1), (100, 0, 1), (1000, 0, 0)])
def test_only_the_best_boxes_count(rank: int, of_100: float, of_1000: float) -> None:
    report = evaluate_proposals(dataset([[("cat", BOX)]]), [boxes(rank, BOX)])
    assert report.metrics["ar_100"] == of_100
    assert report.metrics["ar_1000"] == of_1000


def test_names_do_not_matter() -> None:
    data = dataset([[("cat", BOX), ("cow", ELSEWHERE)]])
    detections = [found(("hen", BOX, 0.5), ("hen", ELSEWHERE, 0.4), names=("hen",))]
    assert evaluate_proposals(data, detections).metrics["ar_100"] == 1.0


def test_crowds_need_not_be_found() -> None:
    names = ("cat",)
    own = objects([("cat", BOX), ("cat", ELSEWHERE)], names, crowd=(1,))
    report = evaluate_proposals(dataset([own], names), [boxes(0, BOX)])
    assert report.metrics["ar_100"] == 1.0
    assert report.splits[0].num_boxes == 1


def test_no_boxes_and_no_objects() -> None:
    assert evaluate_proposals(dataset([[("cat", BOX)]]), [boxes(0)]).metrics["ar_100"] == 0.0
    empty = evaluate_proposals(dataset([[]]), [boxes(2)]).metrics
    assert all(math.isnan(value) for value in empty.values())
    with pytest.raises(ValueError, match="has 2 images, and there are detections of 1"):
        evaluate_proposals(dataset([[], []]), [boxes(0)])
