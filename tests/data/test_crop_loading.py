from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from PIL import Image

from regionclip.data.crop_loading import CropPairing, crop_batches, pair_crops
from regionclip.data.images import read_image
from regionclip.data.sampling import Loading
from regionclip.pairs.crops import GivenRegions, GridCells
from regionclip.proposals.table import read_box_table
from tests.data.made import made_dataset

GRID = CropPairing(regions=GridCells(max_split=3, max_regions=4), image_side=32, crop_side=8)
LOADING = Loading(augmentation=GRID, batch_size=4, part_size=4, num_parts=4, num_workers=0, seed=3)


def test_boxes_are_in_pixels_of_the_square_and_crops_show_what_is_in_them() -> None:
    # red on the left half, green on the right one
    picture = Image.new("RGB", (64, 32), (255, 0, 0))
    picture.paste((0, 255, 0), (32, 0, 64, 32))
    boxes = torch.tensor([[0.0, 0, 28, 28], [36, 4, 99, 28]])
    own = replace(GRID, regions=GivenRegions(crop_scale=1.0))
    paired = pair_crops(picture, boxes, own, chance=Random(0))
    assert paired.pixels.shape == (3, 32, 32)
    assert paired.pixels[:, 16:].max() == 0
    assert sorted(paired.boxes.tolist()) == [[0, 0, 14, 14], [18, 2, 32, 14]]
    for box, crop in zip(paired.boxes.tolist(), paired.crops, strict=True):
        channel = 0 if box[0] == 0 else 1
        assert crop[channel].max() > 0.9
        assert crop[1 - channel].max() == 0


def test_what_the_teacher_sees_of_a_box_may_be_larger_than_the_box() -> None:
    picture = Image.new("RGB", (64, 64))
    picture.paste((255, 255, 255), (16, 16, 48, 48))
    own = replace(GRID, regions=GivenRegions(crop_scale=2.0), crop_side=64)
    paired = pair_crops(picture, torch.tensor([[16.0, 16, 48, 48]]), own, chance=Random(0))
    assert paired.boxes.tolist() == [[8, 8, 24, 24]]
    assert float(paired.crops.mean()) == pytest.approx(0.25)


def test_a_run_gives_the_same_batches_however_it_is_divided(tmp_path: Path) -> None:
    dataset = made_dataset([[0], [], [0, 0], [0], [0], []], folder=tmp_path)
    whole = list(crop_batches(dataset, LOADING)(0))
    assert len(whole) == 4
    later = list(crop_batches(dataset, LOADING)(3))
    assert len(later) == 1
    assert torch.equal(later[0].crops, whole[3].crops)
    halves = [
        list(crop_batches(dataset, replace(LOADING, part_size=2, num_processes=2, **own))(0))
        for own in ({"process_index": 0}, {"process_index": 1})
    ]
    for step, batch in enumerate(whole):
        assert batch.images.shape == (4, 3, 32, 32)
        assert len(batch.crops) == sum(len(each) for each in batch.boxes)
        first, second = halves[0][step], halves[1][step]
        assert torch.equal(torch.cat([first.images, second.images]), batch.images)
        assert torch.equal(torch.cat([first.crops, second.crops]), batch.crops)
        for own, expected in zip((*first.boxes, *second.boxes), batch.boxes, strict=True):
            assert torch.equal(own, expected)


def test_boxes_that_were_stored_are_drawn_from_instead_of_the_data_sets(tmp_path: Path) -> None:
    dataset = made_dataset([[0], [0, 0]], folder=tmp_path)
    (tmp_path / "boxes.csv").write_text(
        "image,x0,y0,x1,y1\n0.png,2,4,14,20\n0.png,0,0,999,999\nunknown.png,0,0,9,9\n"
    )
    given = GivenRegions(crop_scale=1.0)
    loading = replace(LOADING, augmentation=replace(GRID, regions=given), part_size=2, num_parts=1)
    loading = replace(loading, batch_size=2)
    stored = read_box_table(tmp_path / "boxes.csv")
    (batch,) = crop_batches(dataset, loading, proposer=stored)(0)
    widths, heights = zip(*(read_image(each.image).size for each in dataset), strict=True)
    scale = 32 / max(widths[0], heights[0])
    listed, unlisted = sorted(batch.boxes, key=len, reverse=True)
    expected = torch.tensor([[2.0, 4, 14, 20], [0, 0, widths[0], heights[0]]]) * scale
    torch.testing.assert_close(listed[listed[:, 0].argsort(descending=True)], expected)
    # an image without a box of use is seen in its upper left sixteenth
    assert len(unlisted) == 1
    assert unlisted[0, :2].tolist() == [0, 0]


def test_an_image_that_cannot_be_read_gives_way_to_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = made_dataset([[0], [0]], folder=tmp_path)
    (tmp_path / "0.png").write_bytes(b"no picture")
    batches = list(crop_batches(dataset, replace(LOADING, num_parts=1))(0))
    assert len(batches[0].images) == 4
    assert "the next image is taken instead" in caplog.text


def test_sides_without_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="image_side and crop_side must be positive, got 0 and 8"):
        replace(GRID, image_side=0)
