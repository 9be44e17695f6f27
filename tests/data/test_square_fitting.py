from dataclasses import replace

import pytest
import torch
from PIL import Image

from regionclip.data.datasets import Objects
from regionclip.data.square_fitting import SquareFitting

BOXES = [[0, 0, 20, 10], [30, 10, 60, 20], [5, 5, 5, 9], [-4, 2, 8, 90]]
PICTURE = Image.new("RGB", (40, 20), (255, 255, 255))


def fitted(fitting: SquareFitting, objects: Objects) -> tuple[torch.Tensor, list, list]:
    pixels, targets = fitting.vary(PICTURE, objects, generator=torch.Generator())
    return pixels, targets.boxes.tolist(), targets.labels.tolist()


def test_boxes_are_clipped_and_scaled_with_the_image() -> None:
    pixels, boxes, labels = fitted(SquareFitting(side=80), Objects.from_rows(BOXES, [7, 8, 9, 3]))
    assert pixels.shape == (3, 80, 80)
    assert pixels[:, :40].min() == 1
    assert pixels[:, 40:].max() == 0
    # twice as large, inside the image; the one without area is gone
    assert boxes == [[0, 0, 40, 20], [60, 20, 80, 40], [0, 4, 16, 40]]
    assert labels == [7, 8, 3]


def test_only_the_first_objects_are_learned_from_and_no_crowds() -> None:
    objects = Objects.from_rows(BOXES, [7, 8, 9, 3])
    objects = replace(objects, is_crowd=torch.tensor([True, False, False, False]))
    assert fitted(SquareFitting(side=80, max_objects=1), objects)[2] == [8]
    assert fitted(SquareFitting(side=80), Objects.empty())[1] == []


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="side and max_objects must be positive, got 0 and 20"):
        SquareFitting(side=0)
    with pytest.raises(ValueError, match="come without outlines"):
        SquareFitting().vary(
            PICTURE, Objects.empty(), generator=torch.Generator(), with_polygons=True
        )
