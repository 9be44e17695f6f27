"""LVIS's rules on cases made by hand, and on random ones against a plain reading of them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from regionclip.data.datasets import Dataset
from regionclip.evaluation.coco import evaluate_coco
from regionclip.evaluation.lvis import evaluate_lvis, evaluate_lvis_masks
from regionclip.structures import Detections

from .made import BOX, ELSEWHERE, Box, categories, dataset, found, random_world

NAMES = ("cat", "dog", "cow")
CAT, DOG, COW = range(3)


def federated(
    data: Dataset, absent: dict[int, tuple[int, ...]], partial: dict[int, tuple[int, ...]]
) -> Dataset:
    """``absent`` and ``partial`` say which labels an image lists as negative, not exhaustive."""
    samples = tuple(
        replace(
            sample,
            negative_labels=absent.get(index, ()),
            not_exhaustive_labels=partial.get(index, ()),
        )
        for index, sample in enumerate(data)
    )
    return replace(data, samples=samples)


# every case: one image with a cat, found with score 0.5, and one more detection with score 0.9
WITH_ONE_MORE = [0.5, 1.0]
"""AP of the cat if the detection before its own is wrong, and if it does not count."""


@pytest.mark.parametrize(
    ("absent", "partial", "cat_ap"),
    [
        ((), (), WITH_ONE_MORE[0]),  # annotated there: a second cat is wrong
        ((CAT,), (), WITH_ONE_MORE[0]),
        ((), (CAT,), WITH_ONE_MORE[1]),  # not every cat is annotated: who knows
    ],
)
def test_a_miss_counts_where_the_class_is_exhaustively_annotated(
    absent: tuple[int, ...], partial: tuple[int, ...], cat_ap: float
) -> None:
    data = federated(dataset([[("cat", BOX)]]), {0: absent}, {0: partial})
    detections = [found(("cat", ELSEWHERE, 0.9), ("cat", BOX, 0.5))]
    assert evaluate_lvis(data, detections).classes[CAT].metrics["ap"] == pytest.approx(cat_ap)


def test_a_hit_counts_even_where_the_class_is_not_exhaustively_annotated() -> None:
    data = federated(dataset([[("cat", BOX)], [("cat", BOX)]]), {}, {0: (CAT,)})
    report = evaluate_lvis(data, [found(("cat", BOX, 0.9)), found()])
    # 1 of 2 found at precision 1: recalls 0, .01, ..., .5 of 101
    assert report.classes[CAT].metrics["ap"] == pytest.approx(51 / 101)


@pytest.mark.parametrize(("absent", "cat_ap"), [((), 1.0), ((CAT,), 0.5), ((DOG,), 1.0)])
def test_a_class_counts_in_an_image_without_it_only_if_somebody_looked_for_it(
    absent: tuple[int, ...], cat_ap: float
) -> None:
    data = federated(dataset([[("cat", BOX)], [("dog", BOX)]]), {1: absent}, {})
    detections = [found(("cat", BOX, 0.5)), found(("cat", ELSEWHERE, 0.9))]
    assert evaluate_lvis(data, detections).classes[CAT].metrics["ap"] == pytest.approx(cat_ap)


def test_a_partial_class_that_is_neither_annotated_nor_absent_is_left_out() -> None:
    data = federated(dataset([[("cat", BOX)], [("dog", BOX)]]), {}, {1: (CAT,)})
    detections = [found(("cat", BOX, 0.5)), found(("cat", BOX, 0.9))]
    assert evaluate_lvis(data, detections).classes[CAT].metrics["ap"] == 1.0


def test_300_detections_of_an_image_count_over_all_classes() -> None:
    data = federated(dataset([[("cat", BOX)], [("cat", BOX)]]), {0: (DOG,), 1: (DOG,)}, {})
    crowd = [("dog", ELSEWHERE, 0.9)] * 300
    detections = [found(*crowd, ("cat", BOX, 0.5)), found(*crowd[:299], ("cat", BOX, 0.5))]
    assert evaluate_lvis(data, detections).classes[CAT].metrics["ap"] == pytest.approx(51 / 101)
    assert evaluate_coco(data, detections).classes[CAT].metrics["ap"] == 1.0


def test_rare_common_and_frequent_classes_are_averaged_apart() -> None:
    kinds = categories(NAMES, r=["cat"], c=["dog"], f=["cow"])
    data = dataset([[("cat", BOX), ("dog", ELSEWHERE), ("cow", BOX)]], kinds=kinds)
    report = evaluate_lvis(data, [found(("cat", BOX, 0.9), ("cow", BOX, 0.8))])
    shares = [report.metrics[f"ap_{name}"] for name in ("rare", "common", "frequent")]
    assert shares == [1.0, 0.0, 1.0]
    assert report.metrics["ap"] == pytest.approx(2 / 3)
    assert [each.name for each in report.splits] == ["all", "rare", "common", "frequent"]
    assert [each.split for each in report.classes] == ["r", "c", "f"]


def test_sizes_are_told_apart_by_area() -> None:
    small: Box = (0.0, 0.0, 32.0, 32.0)  # 1024, the end of small and the start of medium
    data = dataset([[("cat", small), ("dog", ELSEWHERE)]])
    report = evaluate_lvis(data, [found(("cat", small, 0.9))])
    assert report.metrics["ap_small"] == 0.5
    assert report.metrics["ap_medium"] == 1.0
    assert math.isnan(report.metrics["ap_large"])


def test_what_lvis_lists_and_the_data_lacks_is_said() -> None:
    report = evaluate_lvis(dataset([[("cat", BOX)]]), [found()])
    assert any("neg_category_ids" in note for note in report.notes)
    assert any("no frequency" in note for note in report.notes)
    assert math.isnan(report.metrics["ap_rare"])


def test_data_without_boxes_has_no_figures() -> None:
    report = evaluate_lvis(dataset([[]]), [found(("cat", BOX, 0.5))])
    assert all(math.isnan(value) for value in report.metrics.values())


@pytest.mark.parametrize("seed", [0, 1])
def test_random_federated_cases_equal_coco_on_what_the_rules_leave(seed: int) -> None:
    # without partial classes the rules only take detections away, so COCO's evaluator tells
    data, detections = random_world(seed)
    plain = tuple(
        replace(
            sample,
            objects=replace(sample.objects, is_crowd=torch.zeros_like(sample.objects.is_crowd)),
        )
        for sample in data
    )
    rng = np.random.default_rng(seed)
    absent = {index: tuple(np.flatnonzero(rng.random(5) < 0.3).tolist()) for index in range(30)}
    data = federated(replace(data, samples=plain), absent, {})
    left = []
    for index, (sample, own) in enumerate(zip(data, detections, strict=True)):
        counts = {*sample.objects.labels.tolist(), *absent[index]}
        left.append(own.select([int(each) in counts for each in own.labels]))
    assert sum(map(len, left)) < sum(map(len, detections))
    lvis, coco = evaluate_lvis(data, detections), evaluate_coco(data, left)
    for name in ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"):
        assert lvis.metrics[name] == pytest.approx(coco.metrics[name], abs=1e-9)


def square(x0: int, y0: int, x1: int, y1: int) -> list[list[float]]:
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def with_masks(own: Detections, *boxes: tuple[int, int, int, int]) -> Detections:
    masks = torch.zeros(len(boxes), 100, 100, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return replace(own, masks=masks)


def test_masks_are_compared_as_masks() -> None:
    data = dataset([[("cat", BOX)]])
    own = replace(data[0].objects, segmentations=(square(10, 10, 30, 30),))
    data = replace(data, samples=(replace(data[0], objects=own),))
    # the box is right; the mask covers 20 x 12 of 20 x 20: IoU 0.6
    detections = [with_masks(found(("cat", BOX, 0.9)), (10, 10, 30, 22))]
    assert evaluate_lvis(data, detections).metrics["ap"] == 1.0
    report = evaluate_lvis_masks(data, detections)
    assert report.metrics["ap50"] == 1.0
    assert report.metrics["ap75"] == 0.0
    assert report.metrics["ap"] == pytest.approx(3 / 10)  # 0.50, 0.55, 0.60
    assert report.protocol == "lvis-masks"


def test_masks_of_an_image_in_which_nobody_looked_for_anything_count_for_nothing() -> None:
    data = dataset([[("cat", BOX)], []])
    own = replace(data[0].objects, segmentations=(square(10, 10, 30, 30),))
    data = replace(data, samples=(replace(data[0], objects=own), data[1]))
    detections = [with_masks(found(("cat", BOX, 0.9)), (10, 10, 30, 30))]
    other = with_masks(found(("cat", ELSEWHERE, 0.95)), (60, 60, 90, 90))
    assert evaluate_lvis_masks(data, [*detections, other]).metrics["ap"] == 1.0


def test_missing_masks_are_refused() -> None:
    data = dataset([[("cat", BOX)]])
    with pytest.raises(ValueError, match=r"0\.png has an object without a mask; evaluate boxes"):
        evaluate_lvis_masks(data, [found()])
    own = replace(data[0].objects, segmentations=(square(10, 10, 30, 30),))
    data = replace(data, samples=(replace(data[0], objects=own),))
    with pytest.raises(ValueError, match=r"the detections of 0\.png have no masks"):
        evaluate_lvis_masks(data, [found(("cat", BOX, 0.9))])
    nameless = replace(data, samples=(replace(data[0], size_hw=None),))
    with pytest.raises(ValueError, match=r"does not say how large 0\.png is, which masks need"):
        evaluate_lvis_masks(nameless, [found()])
