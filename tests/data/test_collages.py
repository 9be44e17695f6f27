import pytest
import torch
from PIL import Image

from regionclip.data.augmentation import Augmentation
from regionclip.data.collages import FILL, Alone, Collage

PLAIN = Collage(cell=20, pixels=40, flip_share=0.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, size: tuple[int, int]) -> list[Image.Image]:
    """Of one grey each: 10 times their number."""
    return [Image.new("RGB", size, (10 * number,) * 3) for number in range(count)]


def test_each_box_holds_its_image_and_all_else_is_grey() -> None:
    for side in (2, 3, 4):
        layout = Collage(cell=20, pixels=20 * side, flip_share=0.0)
        for size in ((10, 5), (5, 10)):
            own = pictures(side * side, size)
            pixels, boxes = layout.lay(own, generator=generator(side))
            seen = torch.zeros(pixels.shape[1:], dtype=torch.bool)
            for number, (x0, y0, x1, y1) in enumerate(boxes.long().tolist()):
                row, column = divmod(number, side)
                assert column * 20 <= x0 < x1 <= column * 20 + 20
                assert row * 20 <= y0 < y1 <= row * 20 + 20
                assert (x1 - x0, y1 - y0) == (2 * size[0], 2 * size[1])
                part = pixels[:, y0:y1, x0:x1] * 255
                assert part.allclose(torch.full_like(part, 10.0 * number))
                seen[y0:y1, x0:x1] = True
            rest = pixels[0][~seen] * 255
            assert rest.allclose(torch.full_like(rest, float(FILL[0])))


def test_images_of_a_two_by_two_mosaic_meet_in_its_middle() -> None:
    _, high = PLAIN.lay(pictures(4, (5, 10)), generator=generator())
    assert high.tolist() == [[10, 0, 20, 20], [20, 0, 30, 20], [10, 20, 20, 40], [20, 20, 30, 40]]
    _, wide = PLAIN.lay(pictures(4, (10, 5)), generator=generator())
    assert wide.tolist() == [[0, 10, 20, 20], [20, 10, 40, 20], [0, 20, 20, 30], [20, 20, 40, 30]]


def test_outer_images_of_a_three_by_three_mosaic_touch_the_middle_ones_cell() -> None:
    places, heights = set(), set()
    for seed in range(12):
        layout = Collage(cell=20, pixels=60, flip_share=0.0)
        _, boxes = layout.lay(pictures(9, (5, 10)), generator=generator(seed))
        assert boxes[::3, 2].tolist() == [20, 20, 20]
        assert boxes[2::3, 0].tolist() == [40, 40, 40]
        places.add(float(boxes[1, 0]))
        _, boxes = layout.lay(pictures(9, (10, 5)), generator=generator(seed))
        assert boxes[:3, 3].tolist() == [20, 20, 20]
        assert boxes[6:, 1].tolist() == [40, 40, 40]
        heights.add(float(boxes[4, 1]))
    assert len(places) > 4
    assert heights == {20.0, 30.0}


def test_boxes_shrink_with_the_mosaic() -> None:
    pixels, boxes = PLAIN.lay(pictures(16, (10, 10)), generator=generator())
    assert pixels.shape == (3, 40, 40)
    assert boxes[5].tolist() == [10, 10, 20, 20]


def test_images_are_mirrored_by_chance() -> None:
    picture = Image.new("RGB", (20, 20))
    picture.paste((255, 255, 255), (0, 0, 10, 20))
    layout = Collage(cell=20, pixels=40)
    pixels, _ = layout.lay([picture] * 4, generator=generator(1))
    left_is_white = {float(pixels[0, y, x]) for y in (5, 25) for x in (5, 25)}
    assert left_is_white == {0.0, 1.0}


def test_all_sides_are_drawn() -> None:
    own = generator()
    assert {PLAIN.draw_side(generator=own) for _ in range(30)} == {2, 3, 4}


def test_an_image_alone_is_one_box() -> None:
    layout = Alone(augmentation=Augmentation(shortest_sides=(30,), longest_side=50))
    assert layout.draw_side(generator=generator()) == 1
    pixels, boxes = layout.lay(pictures(1, (20, 10)), generator=generator())
    assert pixels.shape == (3, 25, 50)
    assert boxes.tolist() == [[0, 0, 50, 25]]
    pixels, boxes = PLAIN.lay(pictures(1, (20, 10)), generator=generator())
    assert boxes.tolist() == [[0, 0, 40, 20]]


def test_impossible_layouts_are_refused() -> None:
    for sides in ((), (1, 2), (5,)):
        with pytest.raises(ValueError, match="sides must be from 2 to 4"):
            Collage(sides=sides)
    with pytest.raises(ValueError, match="cell and pixels must be positive, got 0 and 800"):
        Collage(cell=0)
    with pytest.raises(ValueError, match=r"flip_share must be in \[0, 1\]"):
        Collage(flip_share=1.5)
