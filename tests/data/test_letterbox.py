import numpy as np
from PIL import Image

from regionclip.data.letterbox import fit_at_corner, letterbox

WHITE = (255, 255, 255)


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
