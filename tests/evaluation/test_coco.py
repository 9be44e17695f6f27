"""COCO's figures: equal to pycocotools, and what happens at the edges."""

import contextlib
import io
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from regionclip.data.datasets import Dataset
from regionclip.data.readers.coco import coco_dictionary
from regionclip.evaluation import curves
from regionclip.evaluation.coco import evaluate_coco, evaluate_ov_coco
from regionclip.evaluation.curves import AREAS, CurveOptions, compute_curves
from regionclip.evaluation.naming import only_split, with_splits
from regionclip.structures import Detections

from .made import BOX, ELSEWHERE, Box, categories, dataset, found, objects, random_world

FIGURES = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"),
)


def by_pycocotools(data: Dataset, detections: list[Detections]) -> Any:
    """The original's evaluator after it ran; its type stubs know files only."""
    ids = [each.id for each in data.categories]
    rows = [
        row
        for sample, own in zip(data, detections, strict=True)
        for row in own.to_coco(sample.image_id, ids)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth: Any = COCO()
        truth.dataset = coco_dictionary(data) | {"info": {}}
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(rows), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def test_few_classes_at_a_time_give_the_figures_of_all_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, detections = random_world(3, tied_scores=True)
    options = CurveOptions(is_federated=True)
    whole = compute_curves(data, detections, options)
    assert whole.precision.shape[2] == len(data.categories) == 5
    for num_classes in (1, 2):
        monkeypatch.setattr(curves, "MAX_PAIRS", num_classes * len(data))
        parts = compute_curves(data, detections, options)
        np.testing.assert_array_equal(parts.precision, whole.precision)
        np.testing.assert_array_equal(parts.recall, whole.recall)


@pytest.mark.parametrize("tied_scores", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_all_figures_equal_those_of_pycocotools(seed: int, tied_scores: bool) -> None:
    data, detections = random_world(seed, tied_scores=tied_scores)
    expected = by_pycocotools(data, detections)
    report = evaluate_coco(data, detections)
    assert tuple(report.metrics) == FIGURES
    ours = list(report.metrics.values())
    assert 0.1 < ours[0] < 0.9
    np.testing.assert_allclose(ours, expected.stats, rtol=0, atol=1e-6)


def test_every_class_size_and_overlap_equals_pycocotools() -> None:
    data, detections = random_world(3)
    expected = by_pycocotools(data, detections).eval
    curves = compute_curves(data, detections, CurveOptions())
    precision = np.where(expected["precision"] < 0, np.nan, expected["precision"])
    recall = np.where(expected["recall"] < 0, np.nan, expected["recall"])
    np.testing.assert_allclose(curves.precision, precision, rtol=0, atol=1e-6)
    np.testing.assert_allclose(curves.recall, recall, rtol=0, atol=1e-6)
    assert np.isnan(curves.ap()[-1])  # the class without objects
    assert list(AREAS) == list(CurveOptions().areas)


def test_the_order_of_images_and_of_a_vocabulary_changes_nothing() -> None:
    data, detections = random_world(4)
    before = evaluate_coco(data, detections)
    order = np.random.default_rng(0).permutation(len(data)).tolist()
    shuffled = replace(data, samples=tuple(data[index] for index in order))
    turned = (2, 0, 4, 1, 3)
    places = torch.tensor([turned.index(label) for label in range(5)])
    renamed = [
        replace(
            detections[index],
            labels=places[detections[index].labels],
            class_names=tuple(data.class_names[label] for label in turned),
        )
        for index in order
    ]
    after = evaluate_coco(shuffled, iter(renamed))
    assert after.metrics == pytest.approx(before.metrics, nan_ok=True)
    for own, other in zip(after.classes, before.classes, strict=True):
        assert own.num_boxes == other.num_boxes
        assert own.metrics == pytest.approx(other.metrics, nan_ok=True)


def test_finding_everything_gives_one_and_more_images_without_objects_nothing() -> None:
    data = dataset([[("cat", BOX), ("cow", ELSEWHERE)], [("dog", BOX)], []])
    detections = [found(("cat", BOX, 0.9), ("cow", ELSEWHERE, 0.8)), found(("dog", BOX, 0.7))]
    report = evaluate_coco(data, [*detections, found()])
    assert report.metrics["ap"] == report.metrics["ar100"] == 1.0
    assert report.num_images == 3
    worse = evaluate_coco(data, [*detections, found(("cat", BOX, 0.95))])
    # the false cat comes first: precision 1/2 at every recall
    assert [each.metrics["ap"] for each in worse.classes] == [0.5, 1.0, 1.0]


def test_counts_leave_out_crowds() -> None:
    names = ("cat", "dog")
    own = objects([("cat", BOX), ("cat", ELSEWHERE), ("dog", BOX)], names, crowd=(1,))
    report = evaluate_coco(dataset([own, []], names), [found(names=names)] * 2)
    assert report.splits[0].num_boxes == 2
    assert report.splits[0].num_images == 1
    assert [each.num_boxes for each in report.classes] == [1, 1]


def test_a_detection_inside_a_crowd_is_neither_right_nor_wrong() -> None:
    names = ("cat",)
    crowd: Box = (50.0, 50.0, 100.0, 100.0)
    own = objects([("cat", BOX), ("cat", crowd)], names, crowd=(1,))
    detections = [found(("cat", ELSEWHERE, 0.9), ("cat", BOX, 0.8), names=names)]
    assert evaluate_coco(dataset([own], names), detections).metrics["ap50"] == 1.0


def test_difficult_objects_count_and_the_report_says_so() -> None:
    names = ("cat",)
    own = objects([("cat", BOX)], names, difficult=(0,))
    report = evaluate_coco(dataset([own], names), [found(names=names)])
    assert report.metrics["ap"] == 0.0
    assert report.notes[0].startswith("1 of the boxes: Objects marked difficult count")


@pytest.mark.parametrize("images", [[], [[]], [[], []]])
def test_data_without_boxes_or_images_gives_no_figures(images: list) -> None:
    detections = [found(("cat", BOX, 0.9)) for _ in images]
    report = evaluate_coco(dataset(images), detections)
    assert all(math.isnan(value) for value in report.metrics.values())
    assert report.splits[0].num_boxes == 0
    assert (
        evaluate_ov_coco(
            dataset(
                images, kinds=categories(("cat", "dog", "cow"), base=["cat"], novel=["dog", "cow"])
            ),
            detections,
        ).metrics["ap50_all"]
        != 0
    )


def test_no_detections_at_all_give_zero() -> None:
    assert evaluate_coco(dataset([[("cat", BOX)], []]), [found(), found()]).metrics["ap"] == 0.0


def test_images_may_have_names_for_ids_and_boxes_the_number_zero() -> None:
    data = dataset([[("cat", BOX)], [("cat", BOX)]], ids=["night/2", "night/1"])
    assert evaluate_coco(data, [found(("cat", BOX, 0.5))] * 2).metrics["ap"] == 1.0


def test_names_that_differ_in_blanks_and_capitals_are_the_same() -> None:
    data = dataset([[("traffic_light", BOX)]], ("traffic_light",))
    detections = [found(("Traffic light", BOX, 0.5), names=("Traffic light",))]
    assert evaluate_coco(data, detections).metrics["ap"] == 1.0


def test_another_class_than_the_data_has_is_refused_in_a_sentence() -> None:
    data = dataset([[("cat", BOX)]])
    with pytest.raises(ValueError, match=r"have a class 'hen', which is none of the 3 classes of"):
        evaluate_coco(data, [found(names=("cat", "dog", "cow", "hen"))])
    with pytest.raises(ValueError, match=r"not asked for 'cow' \(1 of the 3 classes of made\.json"):
        evaluate_coco(data, [found(names=("cat", "dog"))])


@pytest.mark.parametrize("count", [1, 3])
def test_other_numbers_of_images_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=r"made\.json has 2 images, and there are detections of"):
        evaluate_coco(dataset([[("cat", BOX)], []]), [found()] * count)


def test_base_and_novel_classes_are_averaged_apart() -> None:
    kinds = categories(("cat", "dog", "cow"), base=["cat", "dog"], novel=["cow"])
    data = dataset([[("cat", BOX), ("dog", ELSEWHERE)], [("cow", BOX)]], kinds=kinds)
    detections = [found(("cat", BOX, 0.9)), found(("cow", BOX, 0.9))]
    report = evaluate_ov_coco(data, detections)
    assert report.metrics["ap50_base"] == report.metrics["ar50_base"] == 0.5
    assert report.metrics["ap50_novel"] == 1.0
    assert report.metrics["ap50_all"] == pytest.approx(2 / 3)
    assert [(each.name, each.num_classes, each.num_boxes) for each in report.splits] == [
        ("all", 3, 3),
        ("base", 2, 2),
        ("novel", 1, 1),
    ]
    assert "all 3 classes compete" in report.sentence


def test_one_split_alone_is_a_smaller_data_set_with_the_same_images() -> None:
    kinds = categories(("cat", "dog", "cow"), base=["cat", "dog"], novel=["cow"])
    data = only_split(dataset([[("cat", BOX)], [("cow", BOX), ("dog", BOX)]], kinds=kinds), "novel")
    assert data.class_names == ("cow",)
    assert [len(each.objects) for each in data] == [0, 1]
    report = evaluate_ov_coco(
        data, [found(names=("cow",)), found(("cow", BOX, 0.3), names=("cow",))]
    )
    assert report.metrics["ap50_novel"] == report.metrics["ap50_all"] == 1.0
    assert math.isnan(report.metrics["ap50_base"])
    assert "the novel classes alone are named" in report.sentence


def test_splits_come_from_the_names_of_coco_where_the_data_does_not_say() -> None:
    names = ("Person", "traffic light", "cow")
    data = dataset([[("Person", BOX), ("traffic light", BOX), ("cow", ELSEWHERE)]], names)
    kept = ("Person", "cow")
    report = evaluate_ov_coco(with_splits(data), [found(("cow", ELSEWHERE, 1.0), names=kept)])
    assert [(each.name, each.split) for each in report.classes] == [
        ("Person", "base"),
        ("cow", "novel"),
    ]
    assert (report.metrics["ap50_base"], report.metrics["ap50_novel"]) == (0.0, 1.0)


def test_data_that_tells_no_split_is_refused() -> None:
    with pytest.raises(ValueError, match="does not say which classes are base and which novel"):
        evaluate_ov_coco(dataset([[("hen", BOX)]], ("hen",)), [found(names=("hen",))])
    kinds = categories(("cat",), base=["cat"])
    with pytest.raises(ValueError, match=r"made\.json has no novel class"):
        only_split(dataset([], ("cat",), kinds=kinds), "novel")
