import numpy as np
import pytest
from PIL import Image

from regionclip.data.letterbox import fit_at_corner, letterbox, longest_side_size

WHITE = (255, 255, 255)


@pytest.mark.parametrize(
    ("size", "longest", "expected"),
    [
        ((640, 480), 320, (320, 240)),
        ((480, 640), 320, (240, 320)),
        ((4, 1), 2, (2, 1)),  # 0.5 is rounded to 0, and no side is
        ((8, 3), 4, (4, 2)),  # 1.5 is rounded to even
        ((8, 5), 4, (4, 2)),  # and so is 2.5
        ((1000, 1), 10, (10, 1)),
    ],
)
def test_the_longer_side_is_as_asked_and_the_shape_is_kept(
    size: tuple[int, int], longest: int, expected: tuple[int, int]
) -> None:
    assert longest_side_size(size, longest) == expected


def white_part(picture: Image.Image) -> tuple[int, int, int, int] | None:
    return Image.fromarray(np.array(picture)[:, :, 0] > 0).getbbox()


def test_a_picture_is_fitted_into_the_corner_or_the_middle_on_black() -> None:
    wide = Image.new("RGB", (8, 3), WHITE)
    assert white_part(fit_at_corner(wide, 8)) == (0, 0, 8, 3)
    assert white_part(letterbox(wide, 8)) == (0, 2, 8, 5)  # of 5 rows, 2 above and 3 below
    high = Image.new("RGB", (4, 8), WHITE)
    assert white_part(fit_at_corner(high, 4)) == (0, 0, 2, 4)
    assert white_part(letterbox(high, 4)) == (1, 0, 3, 4)
    for made in (fit_at_corner(wide, 8), letterbox(wide, 8)):
        assert made.size == (8, 8)
        assert made.mode == "RGB"
