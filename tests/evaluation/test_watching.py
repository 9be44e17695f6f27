"""Measuring while training: by whose rules, and which figures can be asked for."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from regionclip.data.datasets import Dataset, Sample
from regionclip.detect import DetectOptions, Detector
from regionclip.detections.select import SelectionOptions
from regionclip.evaluation.coco import evaluate_coco, evaluate_ov_coco
from regionclip.evaluation.lvis import evaluate_lvis
from regionclip.evaluation.processes import Processes
from regionclip.evaluation.watching import (
    Judge,
    Watch,
    judge_objects,
    judge_proposals,
    object_rules,
    watched,
)
from regionclip.structures import PreparedImage

from .made import BOX, ELSEWHERE, categories, dataset, found, random_world
from .painted import colour_detector, paint

NAMES = ("cat", "dog", "cow")
FREQUENCIES = categories(NAMES, r=["cat"], c=["dog"], f=["cow"])


def with_lists(data: Dataset, **lists: tuple[int, ...]) -> Dataset:
    """The first image's lists of classes."""
    return replace(data, samples=(replace(data[0], **lists), *data.samples[1:]))


@pytest.mark.parametrize(
    ("data", "rules"),
    [
        (dataset([[("cat", BOX)]]), evaluate_coco),
        (dataset([[("cat", BOX)]], kinds=categories(NAMES, base=["cat"])), evaluate_coco),
        (dataset([[("cat", BOX)]], kinds=FREQUENCIES), evaluate_lvis),
        (with_lists(dataset([[("cat", BOX)]]), negative_labels=(1,)), evaluate_lvis),
        (with_lists(dataset([[("cat", BOX)]]), not_exhaustive_labels=(0,)), evaluate_lvis),
    ],
    ids=["plain", "base", "frequencies", "negative", "not exhaustive"],
)
def test_the_data_tell_whose_rules_are_right(data: Dataset, rules: Any) -> None:
    assert object_rules(data).evaluate is rules


def test_what_nobody_looked_for_is_not_wrong_in_federated_data() -> None:
    data = dataset([[("cat", BOX)], [("dog", BOX)]], kinds=FREQUENCIES)
    detections = [found(("cat", BOX, 0.5)), found(("cat", ELSEWHERE, 0.9), ("dog", BOX, 0.8))]
    figures = judge_objects(data, detections)
    assert figures["ap_rare"] == figures["ap_common"] == 1.0
    assert "ar300" in figures
    assert "ap_frequent" not in figures  # no cow is annotated
    plain = replace(data, categories=categories(NAMES))
    assert judge_objects(plain, detections)["ap"] == 0.75


def options_of_measuring(
    data: Dataset, defaults: DetectOptions, monkeypatch: pytest.MonkeyPatch
) -> DetectOptions:
    """What a detector is asked for while it is measured."""
    seen: list[DetectOptions] = []
    original = Detector.detect_prepared

    def noted(
        self: Detector, images: Sequence[PreparedImage], names: Any, options: DetectOptions
    ) -> Any:
        seen.append(options)
        return original(self, images, names, options)

    monkeypatch.setattr(Detector, "detect_prepared", noted)
    detector = colour_detector(data)
    detector.defaults = defaults
    assert Watch(data, Processes()).detection_figures(detector)["ap"] == 1.0
    return seen[0]


def test_federated_data_are_measured_with_300_detections_of_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = paint(tmp_path, [[("cat", BOX), ("cow", ELSEWHERE)], [("dog", BOX)]])
    defaults = DetectOptions(selection=SelectionOptions(max_detections=7), objectness_fusion="none")
    assert options_of_measuring(data, defaults, monkeypatch) == defaults
    lvis = replace(data, categories=FREQUENCIES)
    expected = replace(defaults, selection=SelectionOptions(max_detections=300))
    assert options_of_measuring(lvis, defaults, monkeypatch) == expected


@pytest.mark.parametrize("federated", [False, True])
def test_base_and_novel_classes_stand_side_by_side(federated: bool) -> None:
    data, detections = random_world(0)
    novel_cat = watched(data, data.class_names[1:])
    if federated:
        kinds = tuple(replace(each, frequency="f") for each in novel_cat.categories)
        novel_cat = replace(novel_cat, categories=kinds)
    figures = judge_objects(novel_cat, detections)
    splits = {name: figures[name] for name in ("ap50_novel", "ap50_base", "ap50_all")}
    assert splits["ap50_all"] == pytest.approx(figures["ap50"])
    assert len(set(splits.values())) == 3
    if not federated:
        expected = evaluate_ov_coco(novel_cat, detections).metrics
        assert splits == pytest.approx({name: expected[name] for name in splits})


def without_large(sample: Sample) -> Sample:
    boxes = sample.objects.boxes.clone()
    boxes[:, 2:] = torch.minimum(boxes[:, 2:], boxes[:, :2] + 50)
    return replace(sample, objects=replace(sample.objects, boxes=boxes, areas=None))


@pytest.mark.parametrize("kinds", [None, FREQUENCIES], ids=["coco", "lvis"])
@pytest.mark.parametrize("judge", [judge_objects, judge_proposals])
def test_the_figures_that_may_decide_are_those_that_are_measured(judge: Judge, kinds: Any) -> None:
    data, detections = random_world(1, names=NAMES)
    data = replace(data, samples=tuple(map(without_large, data)))
    data = watched(data if kinds is None else replace(data, categories=kinds), NAMES[1:])
    measured = judge(data, detections)
    assert not [name for name in measured if "large" in name]
    watch = Watch(data, Processes())
    for name in measured:
        watch.check_metric(name, judge)
    with pytest.raises(
        ValueError, match=r"^measuring\.metric: .* gives no figure 'ap_larg'"
    ) as error:
        watch.check_metric("ap_larg", judge)
    assert str(error.value).endswith(f"expected one of {', '.join(measured)}")


def test_a_metric_of_novel_classes_needs_some() -> None:
    data = watched(dataset([[("cat", BOX), ("dog", BOX), ("cow", BOX)]]), NAMES)
    with pytest.raises(ValueError, match=r"made\.json gives no figure 'ap50_novel'"):
        Watch(data, Processes()).check_metric("ap50_novel", judge_objects)
