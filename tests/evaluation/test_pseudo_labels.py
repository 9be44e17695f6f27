from dataclasses import replace
from pathlib import Path

import pytest

from regionclip.data.datasets import Dataset
from regionclip.evaluation.pseudo_labels import PseudoRules, find_pseudo_boxes, with_pseudo_boxes
from regionclip.structures import Detections

from .made import BOX, ELSEWHERE, categories, objects
from .painted import colour_detector, paint

NEAR = (15.0, 10.0, 45.0, 30.0)  # its IoU with BOX is 300 / 700
IMAGES = [[("cat", BOX), ("cow", ELSEWHERE)], [("cow", BOX)], [("cat", BOX), ("dog", NEAR)], []]


def painted(folder: Path) -> tuple[Dataset, Dataset]:
    """All objects, and what people annotated: cats alone."""
    whole = paint(folder, IMAGES)
    samples = []
    for sample, rows in zip(whole, IMAGES, strict=True):
        cats = [row for row in rows if row[0] == "cat"]
        samples.append(replace(sample, objects=objects(cats, ("cat",))))
    return whole, replace(whole, categories=categories(("cat",)), samples=tuple(samples))


def found(folder: Path, **options: float) -> dict[int | str, Detections]:
    whole, base = painted(folder)
    rules = PseudoRules(**options)
    return find_pseudo_boxes(colour_detector(whole), base, ("dog", "cow"), rules=rules)


def test_novel_objects_are_found_where_no_box_is_annotated(tmp_path: Path) -> None:
    boxes = found(tmp_path)
    # of the third image, the annotated cat looks like the dog that lies on it
    labels = {image: own.labels.tolist() for image, own in boxes.items()}
    assert labels == {1: [1], 2: [1], 3: [0]}
    assert boxes[1].boxes.tolist() == [list(ELSEWHERE)]
    assert boxes[1].class_names == ("dog", "cow")
    assert boxes[3].boxes.tolist() == [list(NEAR)]
    assert found(tmp_path, max_iou=0.4).keys() == {1, 2}
    assert found(tmp_path, min_score=1.0) == {}


def test_what_cannot_be_a_threshold_is_refused() -> None:
    with pytest.raises(ValueError, match=r"max_iou must be in \[0, 1\], got 2"):
        PseudoRules(max_iou=2.0)


def test_boxes_found_stand_beside_those_of_people_and_say_what_they_are(tmp_path: Path) -> None:
    given = {"id": 7, "image_id": 1, "category_id": 10, "bbox": [0, 0, 5, 5]}
    listed = [{"id": 10, "name": "cat"}, {"id": 30, "name": "Cow"}]
    content = {"images": [{"id": 1}], "annotations": [given], "categories": listed, "info": {}}
    new = with_pseudo_boxes(content, found(tmp_path), ("dog", "cow"))
    assert (new["images"], new["info"]) == (content["images"], {})
    assert new["categories"] == [
        {"id": 10, "name": "cat"},
        {"id": 30, "name": "Cow", "split": "novel"},
        {"id": 31, "name": "dog", "split": "novel"},
    ]
    first, second, third, fourth = new["annotations"]
    assert first == given
    assert (second["id"], third["id"], fourth["id"]) == (8, 9, 10)
    assert fourth["category_id"] == 31
    assert (second["image_id"], second["category_id"]) == (1, 30)
    assert second["bbox"] == [60.0, 60.0, 30.0, 30.0]
    assert second["area"] == 900.0
    assert second["is_pseudo"]
    assert 0.2 <= second["score"] <= 1
    assert content["annotations"] == [given]
    with pytest.raises(ValueError, match=r"annotation 7 is of a novel class \(10\) already"):
        with_pseudo_boxes(content, {}, ("cat",))
