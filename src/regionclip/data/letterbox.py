"""Pictures fitted into squares with their aspect kept: what CLIM's and CLIPSelf's towers see."""

from PIL import Image

from .transforms import longest_size


def fit_at_corner(picture: Image.Image, side: int) -> Image.Image:
    """Resize to a longest side of ``side``, then pad right and bottom with black to a square.

    A box of the picture, times ``side / max(picture.size)``, is the same box of the square.

    Args:
        picture: Of any size and mode.
        side: Pixels of the square.
    """
    return _on_square(_fitted(picture, side), side, offset=(0, 0))


def letterbox(picture: Image.Image, side: int) -> Image.Image:
    """Resize to a longest side of ``side``, then pad both sides of the shorter one with black.

    An odd row or column of padding is at the right or bottom.

    Args:
        picture: Of any size and mode.
        side: Pixels of the square.
    """
    fitted = _fitted(picture, side)
    offset = (side - fitted.width) // 2, (side - fitted.height) // 2
    return _on_square(fitted, side, offset=offset)


def _fitted(picture: Image.Image, side: int) -> Image.Image:
    return picture.resize(longest_size(picture.size, side), Image.Resampling.BICUBIC)


def _on_square(picture: Image.Image, side: int, *, offset: tuple[int, int]) -> Image.Image:
    square = Image.new(picture.mode, (side, side))
    square.paste(picture, offset)
    return square
