from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from regionclip.data.datasets import Category, Dataset, Objects, Sample
from regionclip.data.writers import written_coco


def dataset(*samples: Sample, categories: tuple[Category, ...] = (Category("cat", 0),)) -> Dataset:
    return Dataset("my", categories, samples)


def sample(name: str, image_id: int | str, **more: Any) -> Sample:
    defaults = {"image": Path(name), "size_hw": (30, 40)}
    return Sample(name, image_id=image_id, **defaults | more)


def test_difficult_objects_are_marked_and_the_file_says_how_they_count() -> None:
    objects = Objects.from_rows([[0, 0, 9, 9.5]], [0], is_difficult=[True])
    content = written_coco(
        dataset(sample("a.jpg", "000007", objects=objects), sample("b.jpg", "000009")),
        ["x/a.jpg", "x/b.jpg"],
        origin="voc",
    )
    assert content["annotations"] == [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [0, 0, 9, 9.5],
            "area": 85.5,
            "iscrowd": 0,
            "ignore": 1,
        }
    ]
    assert content["images"] == [
        {"id": 1, "file_name": "x/a.jpg", "width": 40, "height": 30},
        {"id": 2, "file_name": "x/b.jpg", "width": 40, "height": 30},
    ]
    assert content["categories"] == [{"id": 1, "name": "cat"}]
    notes = " ".join(content["info"]["conversion"])
    assert "1 was subtracted from xmin and ymin" in notes
    assert "1 difficult objects have ignore 1 and iscrowd 0: COCO's metrics count them as" in notes
    assert "1 images have no boxes and stay" in notes


def test_ids_that_are_numbers_stay() -> None:
    categories = (Category("cat", 17), Category("dog", 18))
    content = written_coco(
        dataset(sample("a.jpg", 139), categories=categories), ["a.jpg"], origin="coco"
    )
    assert content["images"][0]["id"] == 139
    assert [each["id"] for each in content["categories"]] == [17, 18]
    assert "difficult" not in " ".join(content["info"]["conversion"])


def test_a_size_that_is_not_annotated_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (12, 8)).save(tmp_path / "a.png")
    source = dataset(sample("a.png", 1, image=tmp_path / "a.png", size_hw=None))
    image = written_coco(source, ["a.png"], origin="voc")["images"][0]
    assert (image["width"], image["height"]) == (12, 8)


def test_boxes_are_written_without_the_noise_of_float32() -> None:
    boxes = torch.tensor([[0.1, 0.2, 10.3, 20.4]])
    objects = Objects.from_rows(boxes.tolist(), [0])
    content = written_coco(dataset(sample("a.jpg", 1, objects=objects)), ["a.jpg"], origin="yolo")
    assert content["annotations"][0]["bbox"] == [0.1, 0.2, 10.2, 20.2]


def test_captions_alone_are_refused() -> None:
    with pytest.raises(ValueError, match="my has no categories: only boxes can be written"):
        written_coco(dataset(categories=()), [], origin="table")
