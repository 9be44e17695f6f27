import math
from dataclasses import replace

import numpy as np
import pytest

from regionclip.evaluation.voc import (
    Verdicts,
    all_point_ap,
    eleven_point_ap,
    evaluate_voc07,
    evaluate_voc12,
    voc_verdicts,
)

from .made import BOX, ELSEWHERE, Box, dataset, found, objects, random_world

NAMES = ("cat",)
HIT, MISS = True, False


def verdicts(*is_hit: bool, num_objects: int) -> Verdicts:
    return Verdicts(np.array(is_hit, dtype=bool), num_objects)


def test_eleven_points_by_hand() -> None:
    # hit, miss, hit of 4 objects: recall 1/4 at precision 1, recall 2/4 at 2/3, none beyond;
    # recalls 0, .1, .2 see 1; .3, .4, .5 see 2/3; the other 5 see 0
    assert eleven_point_ap(verdicts(HIT, MISS, HIT, num_objects=4)) == pytest.approx(
        (3 * 1 + 3 * 2 / 3) / 11
    )


def test_all_points_by_hand() -> None:
    # the area below: 1/4 wide at 1, 1/4 wide at 2/3
    assert all_point_ap(verdicts(HIT, MISS, HIT, num_objects=4)) == pytest.approx(
        1 / 4 + 1 / 4 * 2 / 3
    )


def test_precision_is_the_best_there_or_beyond() -> None:
    # miss, hit, hit of 2: precision 1/2 at the first hit, but 2/3 beyond it
    case = verdicts(MISS, HIT, HIT, num_objects=2)
    assert all_point_ap(case) == pytest.approx(2 / 3)
    assert eleven_point_ap(case) == pytest.approx(2 / 3)


@pytest.mark.parametrize("num_hits", range(1, 11))
def test_a_recall_of_exactly_tenths_counts(num_hits: int) -> None:
    case = verdicts(*[HIT] * num_hits, num_objects=10)
    assert eleven_point_ap(case) == pytest.approx((num_hits + 1) / 11)
    assert all_point_ap(case) == pytest.approx(num_hits / 10)


def test_nothing_found_is_zero_and_nothing_there_is_undefined() -> None:
    assert eleven_point_ap(verdicts(num_objects=3)) == all_point_ap(verdicts(num_objects=3)) == 0.0
    assert math.isnan(eleven_point_ap(verdicts(MISS, num_objects=0)))
    assert math.isnan(all_point_ap(verdicts(MISS, num_objects=0)))


def test_difficult_objects_and_crowds_neither_count_nor_punish() -> None:
    own = objects([("cat", BOX), ("cat", ELSEWHERE)], NAMES, difficult=(1,))
    detections = [found(("cat", ELSEWHERE, 0.9), ("cat", ELSEWHERE, 0.8), names=NAMES)]
    assert evaluate_voc07(dataset([own], NAMES), detections).metrics["ap50"] == 0.0
    assert voc_verdicts(dataset([own], NAMES), detections)[0].is_hit.tolist() == []
    both = [found(("cat", ELSEWHERE, 0.9), ("cat", BOX, 0.8), names=NAMES)]
    report = evaluate_voc12(dataset([own], NAMES), both)
    assert report.metrics["ap50"] == 1.0
    assert report.splits[0].num_boxes == report.classes[0].num_boxes == 1
    crowd = objects([("cat", BOX), ("cat", ELSEWHERE)], NAMES, crowd=(1,))
    assert evaluate_voc12(dataset([crowd], NAMES), both).metrics["ap50"] == 1.0


def test_a_second_detection_of_an_object_is_a_miss() -> None:
    detections = [found(("cat", BOX, 0.9), ("cat", BOX, 0.8), names=NAMES)]
    case = voc_verdicts(dataset([[("cat", BOX)]], NAMES), detections)[0]
    assert case.is_hit.tolist() == [HIT, MISS]


def test_a_detection_looks_at_the_object_it_overlaps_most_even_if_that_is_taken() -> None:
    # both detections overlap the first object most; COCO would give the second one the other
    near: Box = (10.0, 10.0, 30.0, 24.0)
    detections = [found(("cat", BOX, 0.9), ("cat", (10.0, 10.0, 30.0, 28.0), 0.8), names=NAMES)]
    case = voc_verdicts(dataset([[("cat", BOX), ("cat", near)]], NAMES), detections)[0]
    assert case.is_hit.tolist() == [HIT, MISS]


def test_pixels_counted_from_one_become_edges() -> None:
    # xml 11, 11, 30, 30 is 20 x 20 pixels, and 11, 11, 30, 20 is 20 x 10 of them: 200 of 400 is not
    # above one half, 220 of 400 is
    data = dataset([[("cat", (10.0, 10.0, 30.0, 30.0))]], NAMES)
    for last_row, is_hit in ((20.0, MISS), (21.0, HIT)):
        detections = [found(("cat", (10.0, 10.0, 30.0, last_row), 0.9), names=NAMES)]
        assert voc_verdicts(data, detections)[0].is_hit.tolist() == [is_hit]


def test_detections_of_all_images_are_ranked_together() -> None:
    data = dataset([[("cat", BOX)], [("cat", BOX)]], NAMES)
    detections = [
        found(("cat", ELSEWHERE, 0.8), ("cat", BOX, 0.7), names=NAMES),
        found(("cat", BOX, 0.9), names=NAMES),
    ]
    assert voc_verdicts(data, detections)[0].is_hit.tolist() == [HIT, MISS, HIT]


def test_classes_without_objects_stay_out_of_the_mean() -> None:
    report = evaluate_voc07(dataset([[("cat", BOX)], []]), [found(("cat", BOX, 0.9)), found()])
    assert report.metrics["ap50"] == 1.0
    assert math.isnan(report.classes[1].metrics["ap50"])
    assert "over the 1 classes that have objects" in report.sentence


def test_data_without_images_has_no_figure() -> None:
    assert math.isnan(evaluate_voc12(dataset([]), []).metrics["ap50"])


def plain_ap(data_seed: int, label: int, steps: int) -> float:
    """The same, written as the devkit is: one loop over detections, one over recalls."""
    data, detections = random_world(data_seed)
    rows, num_objects = [], 0
    for image, (sample, own) in enumerate(zip(data, detections, strict=True)):
        own_objects = sample.objects
        counts = ~(own_objects.is_difficult | own_objects.is_crowd)
        num_objects += int((counts & (own_objects.labels == label)).sum())
        for box, score, name in zip(
            own.boxes.tolist(), own.scores.tolist(), own.labels.tolist(), strict=True
        ):
            if name == label:
                rows.append((score, image, box))
    taken: set[tuple[int, int]] = set()
    hits, misses, curve = 0, 0, []
    for _, image, (x0, y0, x1, y1) in sorted(rows, key=lambda row: -row[0]):
        best, best_row = 0.0, -1
        own_objects = data[image].objects
        for row, (a0, b0, a1, b1) in enumerate(own_objects.boxes.tolist()):
            if int(own_objects.labels[row]) != label:
                continue
            both = max(0.0, min(x1, a1) - max(x0, a0)) * max(0.0, min(y1, b1) - max(y0, b0))
            iou = both / ((x1 - x0) * (y1 - y0) + (a1 - a0) * (b1 - b0) - both)
            if iou > best:
                best, best_row = iou, row
        if best > 0.5 and (own_objects.is_difficult | own_objects.is_crowd)[best_row]:
            continue
        if best > 0.5 and (image, best_row) not in taken:
            taken.add((image, best_row))
            hits += 1
        else:
            misses += 1
        curve.append((hits / num_objects, hits / (hits + misses)))
    sampled = [
        max((p for r, p in curve if r > step / steps - 1e-9), default=0.0)
        for step in range(steps + 1)
    ]
    return sum(sampled) / len(sampled)


@pytest.mark.parametrize("seed", [0, 1])
def test_random_cases_equal_a_plain_loop(seed: int) -> None:
    data, detections = random_world(seed)
    by_class = [eleven_point_ap(each) for each in voc_verdicts(data, detections)]
    for label in range(4):
        assert by_class[label] == pytest.approx(plain_ap(seed, label, 10), abs=1e-9)
    assert 0.1 < by_class[0] < 0.95


def test_a_random_case_of_all_points_equals_a_fine_sum() -> None:
    data, detections = random_world(2)
    ap = all_point_ap(voc_verdicts(data, detections)[0])
    assert ap == pytest.approx(plain_ap(2, 0, 2000), abs=2e-3)


def test_the_order_of_images_changes_nothing() -> None:
    data, detections = random_world(5)
    order = list(reversed(range(len(data))))
    turned = replace(data, samples=tuple(data[index] for index in order))
    before = evaluate_voc07(data, detections).metrics
    after = evaluate_voc07(turned, [detections[index] for index in order]).metrics
    assert after == pytest.approx(before)
