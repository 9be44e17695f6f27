import math
from dataclasses import replace

import pytest

from regionclip.data.datasets import Dataset
from regionclip.evaluation.diverse_weather import (
    DOMAINS,
    TARGETS,
    WEATHER_PROMPTS,
    compare_prompts,
    evaluate_diverse_weather,
    list_of,
    with_same_classes,
)
from regionclip.structures import Detections

from .made import BOX, ELSEWHERE, categories, dataset, found, objects

NAMES = ("bus", "car")
HIT, MISS, WRONG = (
    found(("car", BOX, 0.9), names=NAMES),
    found(names=NAMES),
    found(("car", ELSEWHERE, 0.9), names=NAMES),
)


def domain(num_cars: int, name: str = "set") -> Dataset:
    """One car per image, and one image with a bus."""
    images = [[("car", BOX)]] * num_cars + [[("bus", BOX)]]
    return dataset(images, NAMES, source=name)


def world() -> tuple[dict[str, Dataset], dict[str, list[Detections]]]:
    """In every domain all buses are found; of 10 cars, more in better weather."""
    bus = found(("bus", BOX, 0.9), names=NAMES)
    data = {each: domain(10, each) for each in DOMAINS}
    num_found = dict(zip(DOMAINS, (10, 5, 4, 3, 0), strict=True))
    return data, {
        each: [HIT] * num_found[each] + [MISS] * (10 - num_found[each]) + [bus] for each in DOMAINS
    }


def test_figures_by_hand_under_both_rules() -> None:
    metrics = evaluate_diverse_weather(*world()).metrics
    # k of 10 cars without a miss: 11 points give (k + 1) / 11, 101 points (10 k + 1) / 101; the bus
    # is 1
    voc = [(1 + cars) / 2 for cars in (1, 6 / 11, 5 / 11, 4 / 11, 0)]
    coco = [(1 + cars) / 2 for cars in (1, 51 / 101, 41 / 101, 31 / 101, 0)]
    assert [metrics[f"voc07_{each}"] for each in DOMAINS] == pytest.approx(voc)
    assert [metrics[f"coco_{each}"] for each in DOMAINS] == pytest.approx(coco)
    assert metrics["voc07_targets"] == pytest.approx(sum(voc[1:]) / 4)
    assert metrics["coco_targets"] == pytest.approx(sum(coco[1:]) / 4)


def test_the_table_has_classes_and_domains_and_counts_where_they_are_small() -> None:
    report = evaluate_diverse_weather(*world())
    table = report.tables[0]
    assert table.columns == ("class", *DOMAINS)
    assert table.rows[0][:2] == ("bus", "100.0 (1 boxes)")
    assert table.rows[1][2] == "54.5 (10 boxes)"
    assert table.rows[2] == ("mean", "100.0", "77.3", "72.7", "68.2", "50.0")
    assert "car in night_rainy (10)" in report.notes[0]
    many, detections = domain(200), [HIT] * 200 + [found(names=NAMES)]
    report = evaluate_diverse_weather({"night_rainy": many}, {"night_rainy": detections})
    assert report.tables[0].rows[1] == ("car", "100.0")


def test_counts_are_given_per_domain() -> None:
    report = evaluate_diverse_weather(*world())
    assert [(each.name, each.num_images, each.num_boxes) for each in report.splits] == [
        (each, 11, 11) for each in DOMAINS
    ]
    assert [part.source for part in report.parts] == list(DOMAINS)
    assert report.num_images == 55


def test_classes_are_known_by_name_whatever_their_order_and_whichever_are_missing() -> None:
    data, detections = world()
    turned = ("car", "truck", "bus")
    images = [[("car", BOX)]] * 10 + [[("bus", BOX)]]
    data["night_sunny"] = dataset(images, turned, kinds=categories(turned))
    data["dusk_rainy"] = dataset([[("car", BOX)]] * 11, ("car",))
    names = ("bus", "car", "truck")
    all_named = {
        key: [replace(each, class_names=names) for each in own] for key, own in detections.items()
    }
    report = evaluate_diverse_weather(data, all_named)
    assert [each.name for each in report.classes] == ["bus", "car", "truck"]
    assert report.metrics["voc07_night_sunny"] == pytest.approx((1 + 6 / 11) / 2)
    assert math.isnan(report.classes[0].metrics["voc07_dusk_rainy"])
    assert [each.id for each in with_same_classes(data)["dusk_rainy"].categories] == [1, 2, 3]


def test_difficult_objects_are_left_out_by_one_rule_and_not_by_the_other() -> None:
    own = objects([("car", BOX), ("car", ELSEWHERE)], NAMES, difficult=(1,))
    report = evaluate_diverse_weather(
        {"night_rainy": dataset([own], NAMES)}, {"night_rainy": [HIT]}
    )
    assert report.metrics["voc07_night_rainy"] == 1.0
    assert report.metrics["coco_night_rainy"] == pytest.approx(51 / 101)


def test_missing_domains_are_said() -> None:
    data, detections = world()
    report = evaluate_diverse_weather({"daytime_clear": data["daytime_clear"]}, detections)
    assert math.isnan(report.metrics["voc07_targets"])
    assert report.notes[0] == f"Not evaluated: {', '.join(TARGETS)}."
    with pytest.raises(ValueError, match="no detections of the domain night_sunny"):
        evaluate_diverse_weather(data, {"daytime_clear": []})
    with pytest.raises(ValueError, match="'snow' is no domain of Diverse Weather; expected day"):
        evaluate_diverse_weather({"snow": domain(1)}, {})
    with pytest.raises(ValueError, match="there is no domain of Diverse Weather"):
        evaluate_diverse_weather({}, {})


def test_own_names_and_synonyms_are_a_row_each() -> None:
    data, detections = world()
    worse = {each: [WRONG] * 10 + own[-1:] for each, own in detections.items()}
    report = compare_prompts(
        {
            "own names": evaluate_diverse_weather(data, detections),
            "synonyms": evaluate_diverse_weather(data, worse),
        }
    )
    assert report.tables[0].columns == ("prompts", *DOMAINS, "targets")
    assert report.tables[0].rows[1] == ("synonyms", *["50.0"] * 6)
    assert report.metrics["voc07_daytime_clear"] == 1.0
    assert report.metrics["voc07_targets_synonyms"] == 0.5
    assert len(report.parts) == 10
    assert report.tables[2].title.endswith("(VOC-07, 11 points), own names")


def test_targets_are_tested_on_the_list_that_is_named_and_the_source_on_its_test() -> None:
    assert [list_of(each, "train") for each in DOMAINS] == ["test", *["train"] * 4]
    assert {list_of(each, "test") for each in DOMAINS} == {"test"}
    assert tuple(WEATHER_PROMPTS) == DOMAINS
    assert all("{}" in text for texts in WEATHER_PROMPTS.values() for text in texts)
