import numpy as np
import pytest
import torch

from regionclip.pairs import LabelledRegions, mask_targets
from regionclip.pairs.masks import rasterize_polygons_within_box
from regionclip.structures import Targets


def rectangle(x0: float, y0: float, x1: float, y1: float) -> torch.Tensor:
    return torch.tensor([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def raster(polygons: list[torch.Tensor], box: list[float], grid: int) -> list[list[int]]:
    found = rasterize_polygons_within_box(polygons, torch.tensor(box), grid=grid)
    return found.int().tolist()


def test_a_rectangle_covers_its_cells() -> None:
    # the box is stretched to 4 x 4 cells of 10 x 5 pixels; the rectangle is its right half
    found = raster([rectangle(120.0, 50, 140, 70)], [100.0, 50, 140, 70], grid=4)
    assert found == [[0, 0, 1, 1]] * 4


def test_a_triangle_covers_the_cells_whose_centres_it_holds() -> None:
    # below the diagonal of a 3 x 3 grid; on the diagonal COCO's raster takes the cell
    triangle = torch.tensor([[0.0, 0.0], [30.0, 30.0], [0.0, 30.0]])
    assert raster([triangle], [0.0, 0, 30, 30], grid=3) == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


def test_parts_outside_the_region_do_not_count() -> None:
    found = raster([rectangle(-50.0, -50, 5, 500)], [0.0, 0, 10, 10], grid=2)
    assert found == [[1, 0], [1, 0]]


def test_an_object_beside_the_region_gives_an_empty_mask() -> None:
    assert raster([rectangle(20.0, 0, 30, 10)], [0.0, 0, 10, 10], grid=2) == [[0, 0], [0, 0]]


def test_several_polygons_are_joined() -> None:
    parts = [rectangle(0.0, 0, 5, 5), rectangle(5.0, 5, 10, 10), rectangle(5.0, 5, 10, 10)]
    assert raster(parts, [0.0, 0, 10, 10], grid=2) == [[1, 0], [0, 1]]


def test_polygons_with_two_corners_are_refused() -> None:
    with pytest.raises(ValueError, match=r"needs three corners, got \[4, 2\]"):
        raster([rectangle(0.0, 0, 1, 1), torch.zeros(2, 2)], [0.0, 0, 10, 10], grid=2)


BOXES = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 20, 10], [50.0, 50, 60, 60]])
TARGETS = Targets(
    boxes=torch.tensor([[30.0, 30, 40, 40], [0.0, 0, 10, 10]]),
    labels=torch.tensor([0, 1]),
    polygons=((rectangle(30.0, 30, 40, 40),), (rectangle(0.0, 0, 10, 10),)),
)


def regions(num_foreground: int) -> LabelledRegions:
    return LabelledRegions(BOXES, torch.tensor([1, 1, 2]), torch.tensor([1, 1, 0]), num_foreground)


def test_each_region_on_an_object_gets_its_objects_mask() -> None:
    found = mask_targets(regions(2), TARGETS, grid=2)
    np.testing.assert_array_equal(found.int(), [[[1, 1], [1, 1]], [[1, 0], [1, 0]]])


def test_no_region_on_an_object_gives_no_mask() -> None:
    nothing = Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert mask_targets(regions(0), nothing, grid=14).shape == (0, 14, 14)


@pytest.mark.parametrize("polygons", [None, ((), ())])
def test_an_object_without_a_polygon_is_refused(
    polygons: tuple[tuple[torch.Tensor, ...], ...] | None,
) -> None:
    targets = Targets(TARGETS.boxes, TARGETS.labels, polygons)
    with pytest.raises(ValueError, match=r"object 1 at .* has no polygon, but masks are trained"):
        mask_targets(regions(1), targets, grid=2)
