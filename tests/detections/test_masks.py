import pytest
import torch

from regionclip.detections import masks
from regionclip.detections.masks import paste_masks, predict_masks


def rows_of(mask: torch.Tensor) -> list[str]:
    return ["".join("#" if pixel else "." for pixel in row) for row in mask.tolist()]


def test_a_full_grid_colours_its_box() -> None:
    # One cell over a box 4 wide and 2 high: pixel centres within half a cell of the cell's centre
    # in both directions get at least (1 - 3/8) * (1 - 1/4) = 0.47; the corners fall below.
    pasted = paste_masks(torch.ones(1, 1, 1), torch.tensor([[1.0, 1, 5, 3]]), (4, 6), threshold=0.4)
    assert rows_of(pasted[0]) == ["......", ".####.", ".####.", "......"]


def test_a_grid_fades_beyond_its_outermost_cell_centres() -> None:
    # As above; the middle two columns get (1 - 1/8) * (1 - 1/4) = 0.66.
    pasted = paste_masks(torch.ones(1, 1, 1), torch.tensor([[1.0, 1, 5, 3]]), (4, 6))
    assert rows_of(pasted[0]) == ["......", "..##..", "..##..", "......"]


def test_a_pixel_takes_the_bilinear_value_at_its_centre() -> None:
    # 2x2 cells over 4x4 pixels: along a row of the upper half, values at 1/8, 3/8, 5/8, 7/8 of the
    # box lie a quarter of a cell left and right of the cell centres at 1/4 and 3/4. With (1, 0)
    # there: 0.75 (faded), 0.75, 0.25, 0 across, times the same for the rows: 0.75, 1, ...
    grid = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    box = torch.tensor([[0.0, 0, 4, 4]])
    # Rows: 0.75 at the border, 1 in the middle.
    expected = torch.tensor([0.75, 1, 1, 0.75])[:, None] * torch.tensor([0.75, 0.75, 0.25, 0])
    for threshold in (0.2, 0.3, 0.6, 0.76):
        pasted = paste_masks(grid, box, (4, 4), threshold=threshold)
        assert pasted[0].equal(expected >= threshold)


def test_the_threshold_itself_belongs_to_the_mask() -> None:
    # Along the only row the values are 0.75 and 0.75, exactly, times 1 for the row.
    pasted = paste_masks(
        torch.ones(1, 1, 1), torch.tensor([[0.0, 0, 2, 1]]), (1, 2), threshold=0.75
    )
    assert rows_of(pasted[0]) == ["##"]


def test_a_box_reaching_out_of_the_image_is_cut_there() -> None:
    grid = torch.ones(1, 14, 14)
    whole = paste_masks(grid, torch.tensor([[10.0, 10, 40, 50]]), (60, 60))
    cut = paste_masks(grid, torch.tensor([[-10.0, -20, 20, 20]]), (60, 60))
    assert cut[0, :30, :40].equal(whole[0, 30:, 20:])


def test_a_mask_mirrors_with_its_grid_and_box() -> None:
    grid = torch.rand(1, 14, 14, generator=torch.Generator().manual_seed(0))
    mask = paste_masks(grid, torch.tensor([[5.0, 7, 41, 38]]), (50, 60))
    mirrored = paste_masks(grid.flip(2), torch.tensor([[19.0, 7, 55, 38]]), (50, 60))
    assert mask.any()
    assert mirrored.equal(mask.flip(2))


def test_an_empty_box_has_an_empty_mask() -> None:
    boxes = torch.tensor([[3.0, 3, 3, 9], [2, 2, 8, 8]])
    pasted = paste_masks(torch.ones(2, 7, 7), boxes, (10, 10))
    assert not pasted[0].any()
    assert pasted[1].any()


def test_bands_of_rows_give_the_same_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    grids = torch.rand(3, 14, 14, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[5.0, 7, 41, 38], [0, 0, 60, 50], [50, 40, 80, 90]])
    at_once = paste_masks(grids, boxes, (50, 60))
    monkeypatch.setattr(masks, "PIXELS_AT_ONCE", 100)
    assert paste_masks(grids, boxes, (50, 60)).equal(at_once)


def test_no_masks_give_no_masks() -> None:
    assert paste_masks(torch.zeros(0, 14, 14), torch.zeros(0, 4), (30, 40)).shape == (0, 30, 40)


def test_a_region_of_several_classes_is_looked_at_once() -> None:
    asked: list[torch.Tensor] = []

    def cells_of(boxes: torch.Tensor) -> torch.Tensor:
        asked.append(boxes)
        return boxes[:, :, None, None].expand(-1, -1, 2, 2)

    regions = torch.tensor([7, 2, 7, 0])
    boxes = regions[:, None] * torch.tensor([0.1, 0.2, 0.3, 0.4])
    head = torch.nn.Conv2d(4, 1, 1)
    found = predict_masks(cells_of, head, boxes, regions)
    [own] = asked
    assert own.tolist() == boxes[[3, 1, 0]].tolist()
    expected = head(cells_of(boxes))[:, 0].sigmoid()
    torch.testing.assert_close(found, expected)
    assert predict_masks(cells_of, head, boxes[:0], regions[:0]).shape == (0, 2, 2)
