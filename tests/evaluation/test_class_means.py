import math
from dataclasses import replace

import pytest
import torch

from regionclip.data.datasets import Category, Dataset, Objects, Sample
from regionclip.evaluation.class_means import (
    asked_rows,
    class_shares,
    evaluate_boxes,
    evaluate_crops,
    evaluate_masks,
    mean_class_accuracy,
)
from regionclip.evaluation.finding import nothing_found
from regionclip.structures import Detections
from tests.data.made import made_dataset

KINDS = ("thing", "thing", "stuff")


def dataset_of(labels: list[list[int]]) -> Dataset:
    dataset = made_dataset(labels, num_classes=3)
    kinds = zip(dataset.categories, KINDS, strict=True)
    return replace(dataset, categories=tuple(replace(each, kind=kind) for each, kind in kinds))


def guessing(dataset: Dataset, orders: list[list[list[int]]]) -> list[Detections]:
    """Per image and region, all classes from the best on."""
    found = []
    for sample, own in zip(dataset, orders, strict=True):
        boxes = sample.objects.boxes.repeat_interleave(3, dim=0)
        labels = torch.tensor(own, dtype=torch.int64).flatten()
        found.append(Detections(boxes, torch.ones(len(boxes)), labels, dataset.class_names))
    return found


def test_classes_count_alike_however_many_regions_they_have() -> None:
    is_right = torch.tensor([True, True, False, False])
    assert mean_class_accuracy(is_right, torch.tensor([3, 3, 3, 8])) == pytest.approx(1 / 3)
    nothing = torch.zeros(0, dtype=torch.bool)
    assert math.isnan(mean_class_accuracy(nothing, torch.zeros(0, dtype=torch.int64)))


def test_shares_are_exact_so_that_the_original_can_be_followed_by_rounding() -> None:
    is_right, labels = torch.tensor([True, False, False]), torch.zeros(3, dtype=torch.int64)
    assert mean_class_accuracy(is_right, labels) == 1 / 3
    shares = class_shares(is_right, labels)
    assert shares.tolist() == [1 / 3]
    assert shares.half().tolist() == [0.333251953125]  # the nearest of half precision
    assert class_shares(is_right[:0], labels[:0]).shape == (0,)


def test_things_and_stuff_are_reported_apart() -> None:
    dataset = dataset_of([[0, 1], [], [0, 2]])
    found = guessing(dataset, [[[0, 1, 2], [0, 1, 2]], [], [[1, 0, 2], [2, 0, 1]]])
    report = evaluate_boxes(dataset, found)
    assert report.metrics == {
        "macc1": pytest.approx((0.5 + 0 + 1) / 3),
        "macc5": 1,
        "macc1_thing": pytest.approx(0.25),
        "macc5_thing": 1,
        "macc1_stuff": 1,
        "macc5_stuff": 1,
    }
    assert [each.metrics["top1"] for each in report.classes] == [0.5, 0, 1]
    assert {each.name for each in report.splits} == {"all", "thing", "stuff"}
    names = [evaluate(dataset, found).protocol for evaluate in (evaluate_crops, evaluate_masks)]
    assert [report.protocol, *names] == ["region-macc", "crop-macc", "mask-macc"]


def test_plain_boxes_have_one_figure_each() -> None:
    dataset = made_dataset([[0], [1]], num_classes=2)
    boxes = dataset[0].objects.boxes.repeat_interleave(2, dim=0)
    found = [
        Detections(boxes, torch.ones(2), torch.tensor([0, 1]), dataset.class_names),
        nothing_found(dataset.class_names),  # such as an image that could not be read
    ]
    report = evaluate_boxes(dataset, found)
    assert report.metrics == {"macc1": 0.5, "macc5": 0.5}


def test_regions_too_small_too_large_or_of_crowds_are_not_asked_for() -> None:
    boxes = [[0, 0, 8, 8], [0, 0, 7, 9], [0, 0, 1024, 1024], [0, 0, 1025, 1024], [0, 0, 20, 20]]
    objects = Objects.from_rows(boxes, [0] * 5)
    objects = replace(objects, is_crowd=torch.tensor([False] * 4 + [True]))
    sample = Sample("a.png", made_dataset([[]])[0].image, 1, (2000, 2000), objects)
    assert asked_rows(sample).tolist() == [0, 2]
    many = Objects.from_rows([[0, 0, 20, 20]] * 130, [0] * 130)
    assert asked_rows(replace(sample, objects=many)).tolist() == list(range(100))
    assert asked_rows(replace(sample, objects=Objects.empty())).tolist() == []


def test_detections_from_elsewhere_are_refused() -> None:
    dataset = dataset_of([[0]])
    found = Detections(torch.zeros(1, 4), torch.ones(1), torch.tensor([0]), dataset.class_names)
    with pytest.raises(ValueError, match="1 guesses for 1 regions of 3 classes each"):
        evaluate_boxes(dataset, [found])
    assert Category("a", 1).kind == ""
