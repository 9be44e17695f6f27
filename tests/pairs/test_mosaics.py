import pytest
import torch

from regionclip.pairs import compose_mosaics, mosaic_sides, tile_boxes


def numbered(count: int, size: int = 4) -> torch.Tensor:
    """Images of one value each: their number."""
    return torch.arange(count).float()[:, None, None, None].expand(count, 3, size, size)


def test_images_fill_as_many_mosaics_of_each_size_as_all_sizes_allow() -> None:
    assert mosaic_sides(32, (2, 3, 4)) == (2, 3, 4)
    assert mosaic_sides(61, (2, 3, 4)) == (2, 2, 3, 3, 4, 4)
    assert mosaic_sides(7, (2,)) == (2,)
    assert mosaic_sides(3, (1,)) == (1, 1, 1)


def test_tiles_lie_row_by_row_and_their_boxes_hold_their_images() -> None:
    mosaics = compose_mosaics(numbered(16), sides=(2, 3), pixels_per_side=12)
    assert mosaics.pixels.shape == (2, 3, 12, 12)
    assert [len(each) for each in mosaics.boxes] == [4, 9]
    assert mosaics.singles[:, 0, 0, 0].tolist() == [13, 14, 15]
    found = []
    for pixels, boxes in zip(mosaics.pixels, mosaics.boxes, strict=True):
        for left, top, right, bottom in boxes.round().long().tolist():
            middle = pixels[:, top + 1 : bottom - 1, left + 1 : right - 1]
            found.append(float(middle.mean()))
    assert found == pytest.approx(list(range(13)), abs=0.6)


def test_without_resizing_a_tile_is_the_image() -> None:
    images = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    mosaics = compose_mosaics(images, sides=(2,), pixels_per_side=10)
    assert len(mosaics.singles) == 0
    for image, box in zip(images, mosaics.boxes[0].long().tolist(), strict=True):
        left, top, right, bottom = box
        assert torch.equal(mosaics.pixels[0, :, top:bottom, left:right], image)


def test_boxes_of_tiles_cover_the_mosaic() -> None:
    assert tile_boxes(1).tolist() == [[0, 0, 1, 1]]
    boxes = tile_boxes(2)
    assert boxes.tolist() == [
        [0, 0, 0.5, 0.5],
        [0.5, 0, 1, 0.5],
        [0, 0.5, 0.5, 1],
        [0.5, 0.5, 1, 1],
    ]
    sides = tile_boxes(3)[:, 2:] - tile_boxes(3)[:, :2]
    assert float(sides.prod(dim=1).sum()) == pytest.approx(1)


def test_too_few_images_and_no_size_are_refused() -> None:
    with pytest.raises(ValueError, match="take 29 images together, and a batch has 28"):
        compose_mosaics(numbered(28), sides=(2, 3, 4), pixels_per_side=8)
    for sides in ((), (2, 0)):
        with pytest.raises(ValueError, match="at least one tile per side"):
            mosaic_sides(10, sides)
