import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regionclip.data import icons
from regionclip.data.readers import open_dataset
from regionclip.data.segment_maps import mask_extents, segment_masks


def test_a_written_folder_holds_what_was_drawn(tmp_path: Path) -> None:
    icons.write_coco(tmp_path, num_scenes=3, seed=11, size=128, domain="fog")
    instances = json.loads((tmp_path / "instances.json").read_text())
    assert [each["file_name"] for each in instances["images"]] == [
        "000000.png",
        "000001.png",
        "000002.png",
    ]
    for image in instances["images"]:
        scene = icons.draw_scene(11, image["id"] - 1, size=128, domain="fog")
        pixels = np.asarray(Image.open(tmp_path / "images" / image["file_name"]))
        assert np.array_equal(pixels, scene.pixels)
        own = [each for each in instances["annotations"] if each["image_id"] == image["id"]]
        assert [each["category_id"] - 1 for each in own] == scene.labels.tolist()
        corners = [[x, y, x + width, y + height] for x, y, width, height in _boxes(own)]
        assert corners == scene.boxes.tolist()


def _boxes(annotations: list[dict]) -> list[list[float]]:
    return [each["bbox"] for each in annotations]


def test_ids_are_unique_and_areas_are_those_of_the_boxes() -> None:
    content = icons.coco_annotations([icons.draw_scene(0, index) for index in range(4)])
    ids = [each["id"] for each in content["annotations"]]
    assert len(set(ids)) == len(ids)
    for each in content["annotations"]:
        assert each["area"] == each["bbox"][2] * each["bbox"][3] > 0


def test_categories_say_whether_they_are_novel() -> None:
    categories = icons.coco_annotations([])["categories"]
    assert tuple(each["name"] for each in categories) == icons.CLASS_NAMES
    novel = [each["name"] for each in categories if each["split"] == "novel"]
    assert sorted(novel) == sorted(icons.NOVEL_NAMES)


def test_captions_come_in_cocos_form(tmp_path: Path) -> None:
    icons.write_coco(tmp_path, num_scenes=2, seed=4)
    captions = json.loads((tmp_path / "captions.json").read_text())
    assert [each["caption"] for each in captions["annotations"]] == [
        icons.draw_scene(4, index).caption for index in range(2)
    ]


def test_no_scenes_are_a_valid_data_set(tmp_path: Path) -> None:
    icons.write_coco(tmp_path, num_scenes=0, seed=0)
    assert json.loads((tmp_path / "instances.json").read_text())["images"] == []


def test_a_negative_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_scenes must not be negative, got -1"):
        icons.write_coco(tmp_path, num_scenes=-1, seed=0)


def test_masks_are_what_shows_of_the_icons_in_the_boxes(tmp_path: Path) -> None:
    icons.write_panoptic(tmp_path, num_scenes=4, seed=11, size=96)
    dataset = open_dataset(str(tmp_path / "panoptic.json"))
    for index, sample in enumerate(dataset):
        scene = icons.draw_scene(11, index, size=96)
        assert sample.objects.labels.tolist() == scene.labels.tolist()
        masks = segment_masks(sample)
        assert torch.equal(masks.sum(dim=0) > 0, torch.from_numpy(scene.owner >= 0))
        extents = mask_extents(masks) + torch.tensor([0, 0, 1, 1])
        assert torch.equal(extents, torch.from_numpy(scene.boxes))
    segment = json.loads((tmp_path / "panoptic.json").read_text())["annotations"][0]
    first = icons.draw_scene(11, 0, size=96)
    assert segment["segments_info"][0]["area"] == int((first.owner == 0).sum())
    assert {each.kind for each in dataset.categories} == {"thing"}
    assert {each.split for each in dataset.categories} == {"base", "novel"}


def test_close_ups_come_with_a_caption_each_and_without_boxes(tmp_path: Path) -> None:
    icons.write_close_ups(tmp_path, num_images=3, seed=2, size=32, split="train")
    dataset = open_dataset(str(tmp_path / "captions.json"))
    drawn = [icons.draw_close_up(2, index, size=32, split="train") for index in range(3)]
    assert [sample.captions for sample in dataset] == [(each.caption,) for each in drawn]
    for sample, each in zip(dataset, drawn, strict=True):
        assert len(sample.objects) == 0
        assert isinstance(sample.image, Path)
        assert np.array_equal(np.asarray(Image.open(sample.image)), each.pixels)
