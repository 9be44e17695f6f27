import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regionclip.data.datasets import Dataset, Objects
from regionclip.evaluation.finding import data_vocabulary
from regionclip.evaluation.relabelling import (
    Agreement,
    agreement,
    name_annotations,
    relabelled,
)

from .made import BOX, ELSEWHERE
from .painted import NAMES, colour_detector, paint

IMAGES = [[("cat", BOX), ("cow", ELSEWHERE)], [], [("dog", BOX)], [("cat", ELSEWHERE)]]
EMPTY = (5.0, 5.0, 5.0, 9.0)


def with_ids(data: Dataset) -> Dataset:
    """Annotations 100, 101, ... in the order of the images."""
    samples, start = [], 100
    for sample in data:
        ids = tuple(range(start, start + len(sample.objects)))
        samples.append(replace(sample, objects=replace(sample.objects, ids=ids)))
        start += len(ids)
    return replace(data, samples=tuple(samples))


def named(data: Dataset, **options: object) -> dict[int, int]:
    detector = colour_detector(confused={NAMES.index("cow"): NAMES.index("dog")})
    vocabulary = data_vocabulary(detector, data)
    return name_annotations(detector, data, vocabulary, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_boxes_are_called_what_the_model_sees(tmp_path: Path, batch_size: int) -> None:
    data = with_ids(paint(tmp_path, IMAGES))
    steps: list[int] = []
    labels = named(data, batch_size=batch_size, progress=steps.append)
    assert labels == {100: 0, 101: 1, 102: 1, 103: 0}
    assert sum(steps) == len(data)
    total, cat, dog, cow = agreement(data, labels)
    assert (total.num_boxes, total.num_same, total.share) == (4, 3, 0.75)
    assert (cat.share, dog.share, cow.share) == (1.0, 1.0, 0.0)


def test_crowds_empty_boxes_and_unreadable_images_keep_their_names(tmp_path: Path) -> None:
    data = with_ids(paint(tmp_path, [[("cat", BOX), ("cow", ELSEWHERE)], [("dog", BOX)]]))
    first = data[0]
    boxes = torch.tensor([list(BOX), list(EMPTY)])
    crowd = replace(first.objects, boxes=boxes, is_crowd=torch.tensor([True, False]))
    data = replace(data, samples=(replace(first, objects=crowd), *data.samples[1:]))
    (tmp_path / "1.png").write_bytes(b"no image")
    told: list[int] = []
    assert named(data, unreadable=lambda index, error: told.append(index)) == {}
    assert told == [1]


def test_only_categories_change_and_the_former_ones_are_kept() -> None:
    content = {
        "info": {"year": 2017},
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [
            {"id": 5, "image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4], "area": 12},
            {"id": 6, "image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4], "iscrowd": 1},
        ],
    }
    before = repr(content)
    result = relabelled(content, {5: 9})
    assert repr(content) == before
    changed, kept = result["annotations"]
    assert changed == {**content["annotations"][0], "category_id": 9, "annotated_category_id": 7}
    assert kept == content["annotations"][1]
    assert {key: result[key] for key in ("info", "images", "categories")} == {
        key: content[key] for key in ("info", "images", "categories")
    }


def test_what_people_said_outlives_a_second_relabelling() -> None:
    content = {"annotations": [{"id": 5, "category_id": 7}]}
    twice = relabelled(relabelled(content, {5: 9}), {5: 8})
    assert twice["annotations"] == [{"id": 5, "category_id": 8, "annotated_category_id": 7}]


def test_annotations_need_ids_of_their_own(tmp_path: Path) -> None:
    data = paint(tmp_path, IMAGES)
    with pytest.raises(ValueError, match=r"0\.png has no id, or one that another has"):
        named(data)
    twice = with_ids(data)
    last = replace(twice[3], objects=replace(twice[3].objects, ids=(100,)))
    with pytest.raises(ValueError, match=r"3\.png has no id, or one that another has"):
        named(replace(twice, samples=(*twice.samples[:3], last)))


def test_agreement_without_boxes_is_no_number() -> None:
    assert math.isnan(Agreement("cat", 0, 0).share)
    assert len(Objects.empty()) == 0
