from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regionclip.detect import DetectOptions
from regionclip.detections.select import SelectionOptions
from regionclip.evaluation.coco import evaluate_coco, evaluate_ov_coco
from regionclip.evaluation.finding import classify_true_boxes
from regionclip.evaluation.given_boxes import best_pairs, evaluate_given_boxes
from regionclip.evaluation.processes import Processes
from regionclip.evaluation.watching import Watch, judge_given_boxes

from .made import BOX, ELSEWHERE, categories, dataset, found
from .painted import NAMES, colour_detector, found_in, paint

IMAGES = [[("cat", BOX), ("cow", ELSEWHERE)], [], [("dog", BOX)], [("cat", ELSEWHERE)]]


def test_every_box_is_paired_with_every_class_and_no_background(tmp_path: Path) -> None:
    data = paint(tmp_path, IMAGES)
    detections = list(found_in(colour_detector(), data, find=classify_true_boxes))
    assert [len(each) for each in detections] == [2 * 3, 0, 3, 3]
    first = detections[0]
    assert first.scores.tolist() == sorted(first.scores.tolist(), reverse=True)
    # right ones first; the scores of a box are those of all classes
    assert first.names[:2] == ("cat", "cow")
    assert first.scores.sum().item() == pytest.approx(2.0)
    for row, box in enumerate(data[0].objects.boxes):
        assert torch.equal(first.boxes[row], box)


def test_a_model_that_sees_everything_gets_full_marks_whatever_its_options(
    tmp_path: Path,
) -> None:
    data = paint(tmp_path, IMAGES)
    detector = colour_detector()
    detector.defaults = DetectOptions(selection=SelectionOptions(min_score=0.9, max_detections=1))
    report = evaluate_given_boxes(data, found_in(detector, data, find=classify_true_boxes))
    assert report.metrics["ap"] == 1.0
    assert report.protocol == "given-boxes"
    assert "the best 100 pairs" in report.sentence
    figures = Watch(data, Processes()).given_box_figures(detector)
    assert figures["ap"] == 1.0


def test_a_class_that_is_taken_for_another_is_wrong(tmp_path: Path) -> None:
    data = paint(tmp_path, IMAGES)
    detector = colour_detector(confused={NAMES.index("cat"): NAMES.index("dog")})
    detections = list(found_in(detector, data, find=classify_true_boxes))
    assert evaluate_given_boxes(data, detections).metrics["ap"] < 1.0


def test_the_best_hundred_pairs_of_an_image_count_and_three_hundred_on_lvis() -> None:
    data = dataset([[("cat", BOX)]])
    rows = [("cat", ELSEWHERE, 0.5 + index / 1000) for index in range(150)]
    many = found(*rows, ("cat", BOX, 0.4))
    assert len(best_pairs(data, many)) == 100
    assert best_pairs(data, many).scores.min() > 0.5
    assert judge_given_boxes(data, [many])["ap50"] == 0
    federated = replace(data, categories=categories(NAMES, f=["cat", "dog", "cow"]))
    assert len(best_pairs(federated, many)) == 151


def test_base_and_novel_classes_are_judged_apart() -> None:
    kinds = categories(NAMES, base=["cat", "cow"], novel=["dog"])
    data = dataset([[("cat", BOX), ("dog", ELSEWHERE)]], kinds=kinds)
    detections = [found(("cat", BOX, 0.9), ("cow", ELSEWHERE, 0.8))]
    metrics = evaluate_given_boxes(data, detections).metrics
    assert metrics == evaluate_ov_coco(data, detections).metrics
    assert (metrics["ap50_base"], metrics["ap50_novel"]) == (1.0, 0.0)
    plain = dataset([[("cat", BOX)]])
    assert evaluate_given_boxes(plain, [detections[0]]).metrics == pytest.approx(
        evaluate_coco(plain, [detections[0]]).metrics, nan_ok=True
    )


def test_an_image_without_boxes_has_no_pairs() -> None:
    data = dataset([[], [("cat", BOX)]])
    report = evaluate_given_boxes(data, [found(), found(("cat", BOX, 0.9))])
    assert report.metrics["ap"] == 1.0
