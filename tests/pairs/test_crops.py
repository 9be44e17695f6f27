from random import Random

import numpy as np
import pytest
import torch
from PIL import Image

from regionclip.pairs.crops import GivenRegions, GridCells, cut_crops, enlarged, grids

NONE = torch.zeros(0, 4)


def test_grids_are_nowhere_more_than_twice_as_long_as_wide() -> None:
    assert len(grids(6)) == 24
    assert grids(2) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert all(rows <= 2 * columns and columns <= 2 * rows for rows, columns in grids(6))


def test_cells_cover_the_image_in_random_order() -> None:
    drawn = [GridCells().draw((60, 90), NONE, Random(seed)) for seed in range(20)]
    counts = set()
    for cells in drawn:
        counts.add(len(cells))
        assert len(cells) <= 20
        areas = (cells[:, 2:] - cells[:, :2]).prod(dim=1)
        if len(cells) < 20:
            assert float(areas.sum()) == pytest.approx(60 * 90, rel=1e-5)
        torch.testing.assert_close(areas, areas[:1].expand(len(areas)), rtol=1e-4, atol=0.0)
    assert len(counts) > 3
    assert torch.equal(drawn[0], GridCells().draw((60, 90), NONE, Random(0)))
    most = [GridCells(max_regions=3).draw((60, 90), NONE, Random(seed)) for seed in range(20)]
    assert max(len(each) for each in most) == 3


def test_given_boxes_are_drawn_and_those_of_no_use_passed_over() -> None:
    boxes = torch.tensor([[0, 0, 4, 4], [10, 10, 30, 50], [5, 5, 5, 90], [0, 0, 90, 60]]).float()
    own = GivenRegions(largest_side=60)
    drawn = own.draw((60, 90), boxes, Random(1))
    assert drawn.tolist() == [[10, 10, 30, 50]]
    assert GivenRegions().draw((60, 90), NONE, Random(0)).tolist() == [[0, 0, 22.5, 15]]
    many = torch.tensor([[0.0, 0.0, 10.0 + n, 20.0] for n in range(30)])
    orders = [GivenRegions().draw((60, 90), many, Random(seed)) for seed in range(2)]
    assert [len(each) for each in orders] == [20, 20]
    assert not torch.equal(*orders)


def test_a_box_grows_about_its_centre_up_to_the_border() -> None:
    boxes = torch.tensor([[40.0, 20, 60, 40], [0, 0, 20, 20]])
    grown = enlarged(boxes, 1.5, (60, 90))
    assert grown.tolist() == [[35, 15, 65, 45], [0, 0, 25, 25]]
    assert torch.equal(enlarged(boxes, 1.0, (60, 90)), boxes)


def test_crops_are_the_boxes_rounded_to_pixels() -> None:
    pixels = np.zeros((20, 20, 3), np.uint8)
    pixels[4:8, 6:14] = 255
    crops = cut_crops(Image.fromarray(pixels), torch.tensor([[6.4, 3.6, 13.5, 8.5]]), side=8)
    assert crops.shape == (1, 3, 8, 8)
    # 8x4 pixels, all white, with black above and below
    assert crops[0, :, 2:6].min() == 1
    assert crops[0, :, :2].max() == 0
    assert crops[0, :, 6:].max() == 0


def test_no_region_gives_no_crop_and_a_sliver_one() -> None:
    picture = Image.new("RGB", (20, 20), (255, 255, 255))
    assert cut_crops(picture, NONE, side=8).shape == (0, 3, 8, 8)
    assert cut_crops(picture, torch.tensor([[3.1, 0, 3.2, 20]]), side=8).max() == 1


@pytest.mark.parametrize("changes", [{"max_split": 0}, {"max_regions": 0}, {"crop_scale": 0.0}])
def test_sizes_that_are_none_are_refused(changes: dict) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        GridCells(**changes)
    if "max_split" not in changes:
        with pytest.raises(ValueError, match="must be positive"):
            GivenRegions(**changes)
