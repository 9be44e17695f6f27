import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regionclip.detect import DetectOptions
from regionclip.detections.select import SelectionOptions
from regionclip.evaluation.coco import evaluate_coco
from regionclip.evaluation.finding import find_in_true_boxes, name_true_boxes
from regionclip.evaluation.region_accuracy import evaluate_region_accuracy

from .made import BOX, ELSEWHERE, Box, categories, dataset, found, objects
from .painted import colour_detector, found_in, paint

SIX = ("cat", "dog", "cow", "hen", "pig", "fox")


def guesses(*names: str) -> list[tuple[str, Box, float]]:
    """Classes of the same box, best first."""
    return [(name, BOX, 0.9 - index / 10) for index, name in enumerate(names)]


@pytest.mark.parametrize(
    ("order", "top1", "top5"),
    [
        (("cat", "dog"), 1, 1),
        (("dog", "cat"), 0, 1),
        (("dog", "cow", "hen", "pig", "cat"), 0, 1),
        (("dog", "cow", "hen", "pig", "fox", "cat"), 0, 0),
        (("dog",), 0, 0),
        ((), 0, 0),
    ],
)
def test_a_box_is_named_right_by_the_place_of_its_class(
    order: tuple[str, ...], top1: float, top5: float
) -> None:
    data = dataset([[("cat", BOX)]], SIX)
    report = evaluate_region_accuracy(data, [found(*guesses(*order), names=SIX)])
    assert (report.metrics["top1"], report.metrics["top5"]) == (top1, top5)


def test_shares_over_boxes_and_over_classes() -> None:
    data = dataset([[("cat", BOX)], [("cat", BOX)], [("cat", BOX)], [("dog", BOX)]])
    right, wrong = found(("cat", BOX, 0.9)), found(("cow", BOX, 0.9))
    report = evaluate_region_accuracy(data, [right, right, wrong, wrong])
    assert report.metrics["top1"] == 0.5
    assert report.metrics["class_mean_top1"] == pytest.approx((2 / 3 + 0) / 2)
    assert report.classes[0].metrics["top1"] == pytest.approx(2 / 3)
    assert math.isnan(report.classes[2].metrics["top1"])


def test_guesses_belong_to_the_nearest_box_only() -> None:
    near = (10.0, 10.0, 30.0, 29.9)  # IoU 0.995: both are the same box to a rounding eye
    data = dataset([[("cat", BOX), ("dog", near)]])
    report = evaluate_region_accuracy(data, [found(("cat", BOX, 0.8), ("dog", near, 0.9))])
    assert report.metrics["top1"] == 1.0
    beside = found(("cat", (11.0, 10.0, 31.0, 30.0), 0.9), ("dog", near, 0.9))
    assert evaluate_region_accuracy(data, [beside]).metrics["top1"] == 0.5


def test_crowds_and_boxes_without_area_are_not_named() -> None:
    names = ("cat",)
    own = objects(
        [("cat", BOX), ("cat", ELSEWHERE), ("cat", (5.0, 5.0, 5.0, 9.0))], names, crowd=(1,)
    )
    report = evaluate_region_accuracy(
        dataset([own], names), [found(("cat", BOX, 0.9), names=names)]
    )
    assert report.metrics["top1"] == 1.0


def test_base_and_novel_classes_are_named_apart() -> None:
    kinds = categories(("cat", "dog", "cow"), base=["cat", "dog"], novel=["cow"])
    data = dataset([[("cat", BOX), ("cow", ELSEWHERE)]], kinds=kinds)
    report = evaluate_region_accuracy(data, [found(("cat", BOX, 0.9), ("cat", ELSEWHERE, 0.8))])
    assert (report.metrics["top1_base"], report.metrics["top1_novel"]) == (1.0, 0.0)
    assert (report.metrics["ap50_base"], report.metrics["ap50_novel"]) == (1.0, 0.0)


def test_data_with_frequencies_is_judged_as_lvis() -> None:
    kinds = categories(("cat", "dog", "cow"), r=["cat"], f=["dog", "cow"])
    data = dataset([[("cat", BOX)]], kinds=kinds)
    # below COCO's threshold of 0.001, above LVIS's
    detections = [found(("cat", BOX, 0.0005))]
    report = evaluate_region_accuracy(data, detections)
    assert report.metrics["ap_rare"] == 1.0
    assert "above 0.0001" in report.sentence
    plain = evaluate_region_accuracy(dataset([[("cat", BOX)]]), detections)
    assert (plain.metrics["top1"], plain.metrics["ap"]) == (1.0, 0.0)


def test_nothing_there_is_undefined() -> None:
    report = evaluate_region_accuracy(dataset([[]]), [found()])
    assert math.isnan(report.metrics["top1"])
    assert math.isnan(report.metrics["ap"])


def test_average_precision_is_that_of_detection_with_true_boxes(tmp_path: Path) -> None:
    # two cats on top of each other, so that NMS has something to do
    images = [
        [("cat", BOX), ("cat", (11.0, 10.0, 31.0, 30.0)), ("cow", ELSEWHERE)],
        [("dog", BOX)],
        [],
    ]
    data = paint(tmp_path, images)
    detector = colour_detector(confused={1: 2})
    report = evaluate_region_accuracy(data, found_in(detector, data, find=name_true_boxes))
    options = DetectOptions(selection=SelectionOptions(min_score=0.001, nms_iou=0.5))
    expected = evaluate_coco(
        data, found_in(detector, data, options=options, find=find_in_true_boxes)
    )
    assert report.metrics["ap"] == pytest.approx(expected.metrics["ap"])
    assert 0 < report.metrics["ap"] < 1
    assert report.metrics["top1"] == 0.75


def test_coordinates_rounded_by_a_file_are_the_same_box() -> None:
    data = dataset([[("cat", BOX)]])
    rounded = found(("cat", BOX, 0.9))
    rounded = replace(rounded, boxes=rounded.boxes + torch.tensor([0.04, 0, 0, 0.04]))
    assert evaluate_region_accuracy(data, [rounded]).metrics["top1"] == 1.0
