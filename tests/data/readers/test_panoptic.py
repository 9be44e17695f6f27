import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regionclip.data.datasets import Dataset
from regionclip.data.images import ImageReadError
from regionclip.data.readers import open_dataset
from regionclip.data.segment_maps import mask_extents, segment_masks
from regionclip.evaluation.naming import restricted_to

SEGMENTS = (
    {"id": 258, "category_id": 9, "bbox": [1, 1, 2, 3], "area": 6, "iscrowd": 0},
    {"id": 70000, "category_id": 4, "bbox": [0, 0, 5, 1], "area": 4, "iscrowd": 0},
)


def write_panoptic(folder: Path) -> Path:
    """One image of 6x5 pixels with a thing and a stuff, as COCO's archives unpack."""
    ids = np.zeros((5, 6), np.int64)
    ids[1:4, 1:3] = 258
    ids[0, 0:5] = 70000
    colors = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], axis=2).astype(np.uint8)
    (folder / "val").mkdir()
    (folder / "panoptic_val").mkdir()
    Image.fromarray(colors).save(folder / "panoptic_val" / "1.png")
    Image.new("RGB", (6, 5)).save(folder / "val" / "1.jpg")
    content = {
        "images": [{"id": 1, "file_name": "1.jpg", "height": 5, "width": 6}],
        "annotations": [{"image_id": 1, "file_name": "1.png", "segments_info": list(SEGMENTS)}],
        "categories": [
            {"id": 9, "name": "dog", "isthing": 1},
            {"id": 4, "name": "sky-other", "isthing": 0},
        ],
    }
    path = folder / "panoptic_val.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return open_dataset(write_panoptic(tmp_path), image_root=tmp_path / "val")


def test_segments_are_objects_and_classes_say_what_they_are(dataset: Dataset) -> None:
    assert [(each.name, each.kind) for each in dataset.categories] == [
        ("sky-other", "stuff"),
        ("dog", "thing"),
    ]
    (sample,) = dataset
    assert sample.objects.boxes.tolist() == [[1, 1, 3, 4], [0, 0, 5, 1]]
    assert sample.objects.labels.tolist() == [1, 0]
    assert sample.objects.ids == (258, 70000)
    assert sample.objects.is_stuff is not None
    assert sample.objects.is_stuff.tolist() == [False, True]
    only = restricted_to(dataset, ["sky-other"])[0].objects
    assert only.is_stuff is not None
    assert only.is_stuff.tolist() == [True]


def test_masks_are_the_pixels_of_their_ids(dataset: Dataset) -> None:
    masks = segment_masks(dataset[0])
    assert masks.shape == (2, 5, 6)
    assert masks[0].nonzero().min(dim=0).values.tolist() == [1, 1]
    assert [int(each.sum()) for each in masks] == [6, 5]
    # up to the last pixel, not to the edge after it
    assert mask_extents(masks).tolist() == [[1, 1, 2, 3], [0, 0, 4, 0]]
    masks[0] = False
    assert mask_extents(masks).tolist() == [[0, 0, 0, 0], [0, 0, 4, 0]]
    assert mask_extents(masks[:0]).shape == (0, 4)
    assert mask_extents(torch.zeros(1, 2, 2, dtype=torch.bool)).tolist() == [[0, 0, 0, 0]]


def test_data_without_masks_or_with_a_damaged_one_is_refused(
    dataset: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "panoptic_val" / "1.png").write_bytes(b"no picture")
    with pytest.raises(ImageReadError, match=r"1\.png cannot be read"):
        segment_masks(dataset[0])
    from tests.data.made import made_dataset

    with pytest.raises(ValueError, match="comes without masks of its segments"):
        segment_masks(made_dataset([[0]])[0])


def test_a_damaged_annotation_is_named(tmp_path: Path) -> None:
    path = write_panoptic(tmp_path)
    content = json.loads(path.read_text())
    del content["annotations"][0]["segments_info"][0]["category_id"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"panoptic_val\.json is no valid COCO json"):
        open_dataset(path)
