from typing import Any

import pytest

from regionclip.concepts.class_names import builtin_ids, builtin_names
from regionclip.data.splitting import BENCHMARKS, Part, benchmark_parts

PARTS: tuple[Part, ...] = ("base", "novel", "all")

NOVEL = (
    "airplane 5, bus 6, cat 17, dog 18, cow 21, elephant 22, umbrella 28, tie 32, snowboard 36, "
    "skateboard 41, cup 47, knife 49, cake 61, couch 63, keyboard 76, sink 81, scissors 87"
)
BASE = (
    "person 1, bicycle 2, car 3, motorcycle 4, train 7, truck 8, boat 9, bench 15, bird 16, "
    "horse 19, sheep 20, bear 23, zebra 24, giraffe 25, backpack 27, handbag 31, suitcase 33, "
    "frisbee 34, skis 35, kite 38, surfboard 42, bottle 44, fork 48, spoon 50, bowl 51, "
    "banana 52, apple 53, sandwich 54, orange 55, broccoli 56, carrot 57, pizza 59, donut 60, "
    "chair 62, bed 65, toilet 70, tv 72, laptop 73, mouse 74, remote 75, microwave 78, oven 79, "
    "toaster 80, refrigerator 82, book 84, clock 85, vase 86, toothbrush 90"
)
"""OVR-CNN's lists, as RegionCLIP registers them."""


def numbered(text: str) -> dict[int, str]:
    pairs = [each.rsplit(" ", 1) for each in text.split(", ")]
    return {int(number): name for name, number in pairs}


def official(names: str, **more: Any) -> dict[str, Any]:
    categories = [
        {"id": number, "name": name, "supercategory": "thing"}
        for number, name in zip(builtin_ids(names), builtin_names(names), strict=True)
    ]
    return {"images": [], "annotations": [], "categories": categories} | more


def coco(*objects: tuple[int, int], num_images: int = 4) -> dict[str, Any]:
    """COCO with objects given as image and category."""
    images = [{"id": n, "file_name": f"{n}.jpg", "license": 4} for n in range(1, num_images + 1)]
    rows = [
        {"id": n, "image_id": image, "category_id": category, "bbox": [0, 0, 1, 1]}
        for n, (image, category) in enumerate(objects)
    ]
    return official("coco80", images=images, annotations=rows, info={"year": 2017})


def ids(content: dict[str, Any], key: str) -> list[int]:
    return [each["id"] for each in content[key]]


def test_coco_is_split_by_the_published_ids_and_names() -> None:
    parts = benchmark_parts(coco(), "ov-coco")
    expected: dict[Part, dict[int, str]] = {"base": numbered(BASE), "novel": numbered(NOVEL)}
    expected["all"] = dict(sorted((expected["base"] | expected["novel"]).items()))
    assert {part: len(names) for part, names in expected.items()} == {
        "base": 48,
        "novel": 17,
        "all": 65,
    }
    for part, names in expected.items():
        assert {each["id"]: each["name"] for each in parts[part]["categories"]} == names
        assert ids(parts[part], "categories") == list(names)  # in the order of ids
    splits = {each["id"]: each["split"] for each in parts["all"]["categories"]}
    assert {number for number, split in splits.items() if split == "novel"} == set(numbered(NOVEL))


def test_annotations_of_others_and_images_without_any_are_left_out() -> None:
    # person 1 is base, cat 17 novel, traffic light 10 neither
    source = coco((1, 1), (1, 17), (2, 17), (3, 10), (2, 10))
    parts = benchmark_parts(source, "ov-coco")
    assert [ids(parts[part], "images") for part in PARTS] == [
        [1],
        [1, 2],
        [1, 2],
    ]
    assert [ids(parts[part], "annotations") for part in PARTS] == [
        [0],
        [1, 2],
        [0, 1, 2],
    ]
    assert parts["all"]["images"][0]["license"] == 4
    assert parts["all"]["info"]["year"] == 2017
    assert "2 of 4 images that have none of these, are left out" in parts["all"]["info"]["split"]


def test_the_official_dictionary_stays_as_it_is() -> None:
    source = coco((1, 1))
    benchmark_parts(source, "ov-coco")
    assert source == coco((1, 1))


def lvis() -> dict[str, Any]:
    rare = set(builtin_ids("lvis337"))
    content = official("lvis1203")
    for each in content["categories"]:
        each["frequency"] = "r" if each["id"] in rare else "fc"[each["id"] % 2]
        each["synonyms"] = [each["name"]]
    return content


def test_lvis_is_split_by_frequency() -> None:
    content = lvis()
    # the first rare class of LVIS is applesauce, behind the frequent apple
    names = {each["id"]: each["name"] for each in content["categories"]}
    assert (names[12], names[13]) == ("apple", "applesauce")
    content["images"] = [
        {"id": 1, "neg_category_ids": [12, 13], "not_exhaustive_category_ids": [13]},
        {"id": 2},
    ]
    content["annotations"] = [{"id": 5, "image_id": 1, "category_id": 12}]
    parts = benchmark_parts(content, "ov-lvis")
    assert [len(parts[each]["categories"]) for each in PARTS] == [866, 337, 1203]
    assert parts["base"]["images"] == [
        {"id": 1, "neg_category_ids": [12], "not_exhaustive_category_ids": []}
    ]
    assert parts["novel"]["images"] == []
    assert ids(parts["all"], "images") == [1]
    assert {each["frequency"] for each in parts["novel"]["categories"]} == {"r"}
    assert parts["all"]["categories"][12]["split"] == "novel"


def test_files_are_named_as_papers_name_them() -> None:
    name = BENCHMARKS["ov-coco"].file_name
    assert [name("instances_val2017", each) for each in PARTS] == [
        "ovd_ins_val2017_b.json",
        "ovd_ins_val2017_t.json",
        "ovd_ins_val2017_all.json",
    ]
    assert BENCHMARKS["ov-lvis"].file_name("lvis_v1_train", "base") == "lvis_v1_train_base.json"


def changed(names: str, number: int, **change: Any) -> dict[str, Any]:
    content = lvis() if names == "lvis1203" else coco()
    for each in content["categories"]:
        if each["id"] == number:
            each.update(change)
    return content


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (changed("coco80", 17, name="dog"), "ov-coco", "its category 17 is dog, expected cat"),
        (changed("coco80", 17, id=99), "ov-coco", "its category 17 is not listed, expected cat"),
        (changed("lvis1203", 13, frequency="f"), "ov-lvis", "frequency of applesauce is 'f'"),
        (coco(), "ov-lvis", "category 1 is person, expected aerosol can"),
    ],
)
def test_other_files_are_refused(content: dict[str, Any], name: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"no official file of .*{message}"):
        benchmark_parts(content, name)
