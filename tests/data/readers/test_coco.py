import json
from pathlib import Path
from typing import Any

import pytest
import torch

from regionclip.concepts.class_names import builtin_names
from regionclip.data.readers import open_dataset
from regionclip.data.readers.coco import coco_dictionary, lvis_words, read_coco
from regionclip.evaluation.naming import with_categories

CONTENT: dict[str, Any] = {
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


LVIS = {
    "images": [
        {
            "id": 9,
            "coco_url": "http://images.cocodataset.org/train2017/000000000009.jpg",
            "height": 480,
            "width": 640,
            "neg_category_ids": [3],
            "not_exhaustive_category_ids": [1, 77],
        }
    ],
    "annotations": [],
    "categories": [
        {"id": 3, "name": "bow_(weapon)", "synonyms": ["bow_(weapon)"], "frequency": "r"},
        {"id": 1, "name": "bull", "synonyms": ["horned_cow"], "frequency": "c"},
        {"id": 2, "name": "cup", "synonyms": ["cup", "mug"], "frequency": "f"},
    ],
}


def with_box(box: object) -> dict:
    return {"annotations": [CONTENT["annotations"][0] | {"bbox": box}]}


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


def test_objects_go_to_their_images_whatever_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    rows = [
        {"id": n, "image_id": image, "category_id": 2, "bbox": [n, 0, 1, 1], "iscrowd": n % 2}
        for n, image in enumerate((9, 7, 9, 404, 9))
    ]
    path.write_text(json.dumps(CONTENT | {"annotations": rows}))
    first, second = open_dataset(path)
    assert first.objects.ids == (1,)
    assert second.objects.ids == (0, 2, 4)
    assert second.objects.boxes[:, 0].tolist() == [0, 2, 4]
    assert second.objects.is_crowd.tolist() == [False] * 3
    assert second.objects.areas is None


def test_ids_of_annotations_need_not_be_numbers(path: Path) -> None:
    rows = [each | {"id": f"a{each['id']}"} for each in CONTENT["annotations"]]
    path.write_text(json.dumps(CONTENT | {"annotations": rows}))
    assert open_dataset(path).samples[0].objects.ids == ()


def test_boxes_of_a_model_stay_told_from_those_of_people(path: Path) -> None:
    assert read_coco(path)[0].objects.is_pseudo is None
    crowd, box = CONTENT["annotations"][::-1]
    path.write_text(json.dumps(CONTENT | {"annotations": [crowd, box | {"is_pseudo": True}]}))
    dataset = read_coco(path)
    objects = dataset[0].objects
    assert objects.is_pseudo is not None
    assert objects.is_pseudo.tolist() == [False, True]
    left = with_categories(dataset, dataset.categories[1:])[0].objects
    assert left.is_pseudo is not None
    assert left.is_pseudo.tolist() == [True]
    written = coco_dictionary(dataset)["annotations"]
    assert [each.get("is_pseudo") for each in written] == [None, True]


def test_annotations_of_unlisted_images_are_left_out_with_a_warning(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_text(json.dumps(CONTENT | {"images": CONTENT["images"][1:]}))
    assert len(open_dataset(path).samples[0].objects) == 0
    assert "2 annotations belong to images that it does not list" in caplog.text


def test_an_lvis_file_gives_words_to_prompt_with_and_names_to_show(tmp_path: Path) -> None:
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(LVIS))
    dataset = open_dataset(path)
    assert dataset.class_names == ("bull", "cup", "bow weapon")
    assert [each.display_name for each in dataset.categories] == ["horned_cow", "", "bow_(weapon)"]
    assert [each.frequency for each in dataset.categories] == ["c", "f", "r"]
    (sample,) = dataset
    assert sample.name == "train2017/000000000009.jpg"
    assert (sample.negative_labels, sample.not_exhaustive_labels) == ((2,), (0,))


def test_words_of_lvis_are_those_of_the_built_in_list() -> None:
    assert lvis_words("arctic_(type_of_shoe)") in builtin_names("lvis1203")


@pytest.mark.parametrize("folder", ["", "val2017", "../val2017", "images/val2017", "../images"])
def test_images_are_found_near_the_file(tmp_path: Path, folder: str) -> None:
    path = tmp_path / "annotations" / "instances_val2017.json"
    image = tmp_path / "annotations" / folder / "b.jpg"
    image.parent.mkdir(parents=True)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(CONTENT))
    image.touch()
    found = open_dataset(path).samples[1].image
    assert isinstance(found, Path)
    assert found.samefile(image)
    assert open_dataset(path, image_root="x").samples[1].image == Path("x/b.jpg")


def test_images_that_are_nowhere_are_expected_beside_the_file(path: Path) -> None:
    assert open_dataset(path).samples[0].image == path.parent / "a.jpg"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": None}, "has no list of images"),
        ({"categories": [{"id": 5, "name": "dog"}]}, "annotation 4 has category 2"),
        ({"images": [{"id": 7}]}, "image 0 has neither file_name nor coco_url"),
        ({"images": [{"file_name": "a.jpg"}]}, "image 0 has no id that is a number or a text"),
        ({"images": [3]}, "image 0 is no dictionary"),
        (
            {"images": [CONTENT["images"][0] | {"neg_category_ids": 3}]},
            "image 0 has neg_category_ids that are no list of integers",
        ),
        ({"annotations": [{"image_id": 7}]}, "annotation None has neither bbox nor caption"),
        ({"annotations": [{"bbox": [1, 2, 3, 4]}]}, r"no valid COCO json \(KeyError: 'image_id'\)"),
        (
            {"annotations": [CONTENT["annotations"][0] | {"area": "x"}]},
            "the area of annotation 3 is x, expected a number",
        ),
        ({"categories": [{"id": "x", "name": "dog"}]}, "a category's id is no integer.*'x'"),
        ({"images": [{"id": 7, "file_name": "a.jpg"}] * 2}, "image file 'a.jpg' occurs twice"),
        (with_box([1, 2, 3]), r"the bbox of annotation 3 is \[1, 2, 3\], expected four numbers"),
        (with_box(None), "the bbox of annotation 3 is None"),
        (with_box([1, 2, float("nan"), 4]), r"annotation 3 is \[1, 2, nan, 4\]"),
        (with_box([1, 2, 1e40, 4]), r"annotation 3 is \[1, 2, 1e\+40, 4\]"),
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


def test_captions_in_another_encoding_are_kept_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "captions.json"
    path.write_bytes(
        b'{"images": [{"id": 1, "file_name": "a.jpg"}],'
        b' "annotations": [{"id": 1, "image_id": 1, "caption": "a caf\xe9"}]}'
    )
    assert read_coco(path).samples[0].captions == ("a caf\ufffd",)
    (message,) = caplog.messages
    assert message.endswith(
        "(first at byte 104); U+FFFD stands in 1 places for what cannot be read"
    )


def test_captions_may_stand_with_their_images(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "a.jpg", "captions": ["a dog", "an animal"]}]
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"images": images}))
    assert read_coco(path)[0].captions == ("a dog", "an animal")
