import numpy as np
import pytest
import torch
from PIL import Image

from regionclip.data.square_cropping import SquareCropping


def ramp(width: int, height: int) -> Image.Image:
    """Red says the column, green the row."""
    columns, rows = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([columns, rows, 0 * rows], axis=2).astype(np.uint8))


def cut(seed: int, cropping: SquareCropping, picture: Image.Image) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    pixels, is_mirrored = cropping.vary_alone(picture, generator=generator)
    assert not is_mirrored
    return pixels


def test_most_of_an_image_is_squeezed_into_a_square_by_its_own_chance() -> None:
    cropping, picture = SquareCropping(side=32), ramp(120, 90)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, other = cut(0, cropping, picture), cut(1, cropping, picture)
    assert torch.equal(torch.rand(3), expected)  # nobody else's chance is touched
    assert first.shape == (3, 32, 32)
    assert torch.equal(first, cut(0, cropping, picture))
    assert not torch.equal(first, other)
    for pixels in (first, other):
        # at least 0.9 of the area is seen, and columns still rise to the right
        seen = pixels[0].max() - pixels[0].min(), pixels[1].max() - pixels[1].min()
        assert float(seen[0] * seen[1]) > 0.8
        assert (pixels[0].diff(dim=1) >= 0).all()


def test_the_whole_of_a_square_is_seen_where_nothing_is_left_to_chance() -> None:
    exact = SquareCropping(side=10, areas=(1.0, 1.0), ratios=(1.0, 1.0))
    picture = ramp(10, 10)
    pixels = cut(3, exact, picture)
    expected = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
    torch.testing.assert_close(pixels, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"side": 0}, "side must be positive, got 0"),
        ({"areas": (0.5, 1.5)}, r"areas must be in \(0, 1\] and in that order"),
        ({"ratios": (2.0, 1.0)}, "ratios must be positive and in that order"),
    ],
)
def test_what_cannot_be_cut_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SquareCropping(**changes)
