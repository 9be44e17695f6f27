from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regionclip.cli.pictures import MAX_DRAWN, PictureWriter, drawn
from regionclip.data.images import ImageReadError
from regionclip.structures import Detections
from regionclip.visualize import draw_detections

IMAGE = Image.new("RGB", (400, 300), "grey")


def detections(boxes: list[list[float]]) -> Detections:
    return Detections(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.linspace(0.9, 0.5, len(boxes)),
        labels=torch.arange(len(boxes)) % 2,
        class_names=("cat", "dog"),
    )


def test_of_boxes_that_overlap_the_best_is_drawn_whatever_its_class() -> None:
    found = detections([[10, 10, 110, 110], [12, 12, 112, 112], [200, 100, 300, 200]])
    expected = draw_detections(IMAGE, found.select([0, 2]))
    assert np.array_equal(np.asarray(drawn(IMAGE, found)), np.asarray(expected))


def test_only_the_best_boxes_are_drawn() -> None:
    found = detections([[x, y, x + 9, y + 9] for x in range(0, 400, 50) for y in range(0, 300, 50)])
    assert len(found) > MAX_DRAWN
    expected = draw_detections(IMAGE, found.select(range(MAX_DRAWN)))
    assert np.array_equal(np.asarray(drawn(IMAGE, found)), np.asarray(expected))


def test_no_detections_leave_the_picture_as_it_is() -> None:
    assert np.array_equal(np.asarray(drawn(IMAGE, detections([]))), np.asarray(IMAGE))


def test_more_pictures_than_threads_are_all_written(tmp_path: Path) -> None:
    with PictureWriter(num_workers=1) as pictures:
        for index in range(10):
            pictures.write(tmp_path / "made" / f"{index}.jpg", IMAGE, detections([]))
    assert len(list((tmp_path / "made").iterdir())) == 10


def test_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    pictures = PictureWriter()
    pictures.write(tmp_path / "a.jpg", tmp_path / "gone.jpg", detections([]))
    with pytest.raises(ImageReadError, match=r"gone\.jpg: there is no such file"):
        pictures.__exit__(None)
