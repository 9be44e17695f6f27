import json
from pathlib import Path

import pytest
import torch

from regionclip.data.readers import open_dataset
from regionclip.data.readers.coco import coco_dictionary

CONTENT = {
    "images": [
        {"id": 7, "file_name": "a.jpg", "width": 40, "height": 30},
        {"id": 9, "file_name": "b.jpg", "width": 20, "height": 10},
    ],
    "annotations": [
        {
            "id": 3,
            "image_id": 7,
            "category_id": 5,
            "bbox": [1, 2, 10, 20],
            "area": 150.0,
            "iscrowd": 0,
            "segmentation": [[1, 2, 11, 2, 11, 22]],
        },
        {"id": 4, "image_id": 7, "category_id": 2, "bbox": [0, 0, 5, 5], "area": 25, "iscrowd": 1},
    ],
    "categories": [{"id": 5, "name": "dog", "split": "novel"}, {"id": 2, "name": "cat"}],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(CONTENT))
    return path


def test_a_coco_file_is_read_with_categories_in_the_order_of_ids(path: Path) -> None:
    dataset = open_dataset(path)
    assert dataset.class_names == ("cat", "dog")
    assert [each.split for each in dataset.categories] == ["", "novel"]
    first, second = dataset.samples
    assert (first.image, first.image_id, first.size_hw) == (path.parent / "a.jpg", 7, (30, 40))
    torch.testing.assert_close(first.objects.boxes, torch.tensor([[1.0, 2, 11, 22], [0, 0, 5, 5]]))
    assert first.objects.labels.tolist() == [1, 0]
    assert first.objects.is_crowd.tolist() == [False, True]
    assert first.objects.areas is not None
    assert first.objects.areas.tolist() == [150.0, 25.0]
    assert len(second.objects) == 0
    assert dataset.num_boxes == 1


def test_a_data_set_becomes_the_dictionary_it_was_read_from(path: Path) -> None:
    written = coco_dictionary(open_dataset(path))
    assert written["images"] == CONTENT["images"]
    assert sorted(written["categories"], key=lambda each: -each["id"]) == CONTENT["categories"]
    for row, original in zip(written["annotations"], CONTENT["annotations"], strict=True):
        assert {key: row[key] for key in original if key != "id"} == {
            key: value for key, value in original.items() if key != "id"
        }


def test_captions_are_gathered_per_image(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    rows = [{"id": n, "image_id": 7, "caption": text} for n, text in enumerate(("a dog", "a cat"))]
    path.write_text(json.dumps({"images": CONTENT["images"], "annotations": rows}))
    dataset = open_dataset(path)
    assert [each.captions for each in dataset] == [("a dog", "a cat"), ()]
    assert dataset.categories == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": None}, "has no list of images"),
        ({"categories": [{"id": 5, "name": "dog"}]}, "annotation 4 has category 2"),
        ({"images": [{"id": 7}]}, "no valid COCO json"),
        (
            {"categories": [{"id": 5, "name": "dog"}, {"id": 2, "name": "dog"}]},
            "'dog' occurs twice",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(
    path: Path, change: dict, message: str
) -> None:
    path.write_text(json.dumps(CONTENT | change))
    with pytest.raises(ValueError, match=message) as error:
        open_dataset(path)
    assert "instances.json" in str(error.value)
