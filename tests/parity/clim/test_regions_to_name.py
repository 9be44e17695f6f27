"""The regions of COCO panoptic that are to be named, against the original's."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from regionclip.data.datasets import Dataset
from regionclip.data.readers import open_dataset
from regionclip.data.segment_maps import segment_masks
from regionclip.evaluation.class_means import asked_rows
from regionclip.evaluation.naming_regions import (
    THING_MARGIN,
    asked_boxes,
    masks_on_grid,
    stuff_rows,
)
from regionclip.pairs.crops import cut_crops, enlarged
from tests.parity.clim.training_numbers import (
    check,
    golden,
    normalized,
    sampled_stats,
    smooth_masks,
    toy_folder,
    toy_pictures,
    write_toy_images,
)

TOY = "toy_data"
CELLS = 16
CROPS = 2e-5
"""Relative; sums over all pixels of a crop."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_toy(tmp_path_factory.mktemp("toy"))


def write_toy(folder: Path) -> Dataset:
    """The small data set as COCO's archives unpack."""
    toy = toy_folder()
    shutil.copy(toy / "panoptic.json", folder / "panoptic.json")
    shutil.copytree(toy / "seg", folder / "panoptic")
    write_toy_images(folder)
    return open_dataset(folder / "panoptic.json", image_root=folder)


@pytest.mark.parametrize("number", range(3))
def test_boxes_masks_and_crops_are_those_of_the_original(dataset: Dataset, number: int) -> None:
    sample, picture = dataset[number], toy_pictures()[number]
    expected, name = golden(TOY), f"pan{number}"
    rows, boxes = asked_rows(sample), asked_boxes(sample)
    sides = boxes[:, 2:] - boxes[:, :2]
    is_stuff = stuff_rows(sample)[rows]
    columns = [
        boxes / max(picture.size),
        sample.objects.labels[rows][:, None],
        torch.ones(len(rows), 1),
        sides.prod(dim=1)[:, None],
        ~is_stuff[:, None],
    ]
    table = torch.cat([each.double() for each in columns], dim=1)
    check(TOY, f"{name}_boxes", table, expected[f"{name}_boxes"], rtol=1e-7)
    masks = segment_masks(sample)[rows]
    with pytest.MonkeyPatch.context() as patch:
        smooth_masks(patch)
        grid = masks_on_grid(masks, CELLS)
    check(TOY, f"{name}_masks", grid, expected[f"{name}_masks"], rtol=0.0)
    # and here as the published figures were made: thin parts of masks are lost
    assert not torch.equal(masks_on_grid(masks, CELLS), grid)
    size_hw = (picture.height, picture.width)
    seen = torch.where(is_stuff[:, None], boxes, enlarged(boxes, THING_MARGIN, size_hw))
    crops = sampled_stats(normalized(cut_crops(picture, seen, side=224)), len(rows))
    check(TOY, f"{name}_crop_stats", crops, expected[f"{name}_crop_stats"], rtol=CROPS)


def test_all_regions_are_asked_for(dataset: Dataset) -> None:
    expected = golden(TOY)
    labels = np.concatenate([each.objects.labels[asked_rows(each)] for each in dataset])
    check(TOY, "eval_labels", labels, expected["eval_labels"], rtol=0.0)
    things = np.concatenate([~stuff_rows(each)[asked_rows(each)] for each in dataset])
    check(TOY, "eval_is_thing", things, expected["eval_is_thing"], rtol=0.0)
    boxes = torch.cat([asked_boxes(each) for each in dataset])
    sizes = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    check(TOY, "eval_box_sizes", sizes, expected["eval_box_sizes"], rtol=0.0)
