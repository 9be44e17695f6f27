"""The classes of the icon world: names, characters, base and novel split, and their shapes."""

from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageFont

GLYPHS = {
    "sun": "\u2600",
    "cloud": "\u2601",
    "umbrella": "\u2602",
    "snowman": "\u2603",
    "star": "\u2605",
    "telephone": "\u260e",
    "coffee cup": "\u2615",
    "shamrock": "\u2618",
    "pointing hand": "\u261b",
    "skull": "\u2620",
    "radiation sign": "\u2622",
    "biohazard sign": "\u2623",
    "peace sign": "\u262e",
    "yin yang": "\u262f",
    "wheel": "\u2638",
    "smiling face": "\u263b",
    "chess queen": "\u265b",
    "chess rook": "\u265c",
    "chess knight": "\u265e",
    "spade": "\u2660",
    "heart": "\u2665",
    "diamond": "\u2666",
    "musical note": "\u266b",
    "recycling symbol": "\u267b",
    "wheelchair": "\u267f",
    "die": "\u2684",
    "flag": "\u2691",
    "hammer and pick": "\u2692",
    "anchor": "\u2693",
    "balance": "\u2696",
    "gear": "\u2699",
    "warning sign": "\u26a0",
    "lightning": "\u26a1",
    "scissors": "\u2702",
    "airplane": "\u2708",
    "envelope": "\u2709",
    "pencil": "\u270f",
    "check mark": "\u2714",
    "snowflake": "\u2744",
    "exclamation mark": "\u2762",
    "keyboard": "\u2328",
    "alembic": "\u2697",
    "flower": "\u273f",
    "mouse": "\U0001f42d",
    "cow": "\U0001f42e",
    "cat": "\U0001f431",
    "monkey": "\U0001f435",
    "playing card": "\U0001f0a1",
}
"""Plain name to character; every character is in matplotlib's DejaVu Sans."""

CLASS_NAMES = tuple(GLYPHS)
NOVEL_NAMES = (
    "umbrella",
    "skull",
    "yin yang",
    "chess knight",
    "musical note",
    "wheelchair",
    "anchor",
    "scissors",
    "airplane",
    "envelope",
    "snowflake",
    "cow",
)
"""Occur in captions, never with boxes: 12 of 48, as COCO's 17 of 65."""
BASE_NAMES = tuple(name for name in CLASS_NAMES if name not in NOVEL_NAMES)

_RASTER_SIZE = 160
_PLURALS = {"die": "dice", "mouse": "mice", "scissors": "scissors"}


@cache
def glyph_mask(name: str) -> Image.Image:
    """The shape of a class: an ``L`` image cropped to its ink, its longer side 160 pixels.

    Raises:
        ValueError: There is no icon of that name.
    """
    if name not in GLYPHS:
        raise ValueError(f"no icon is called {name!r}; the icons are: {', '.join(CLASS_NAMES)}")
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    mask = ImageFont.truetype(path, 2 * _RASTER_SIZE).getmask(GLYPHS[name])
    pixels = np.asarray(mask, dtype=np.uint8).reshape(mask.size[1], mask.size[0])
    image = Image.fromarray(pixels)
    image = image.crop(image.getbbox())
    scale = _RASTER_SIZE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def rotated_mask(name: str, *, longest: int, degrees: float) -> Image.Image:
    """A class's shape turned counter-clockwise and scaled, cropped to its ink.

    Args:
        name: One of :data:`CLASS_NAMES`.
        longest: Longer side in pixels before turning.
        degrees: Angle.
    """
    mask = glyph_mask(name)
    scale = longest / max(mask.size)
    size = (max(2, round(mask.width * scale)), max(2, round(mask.height * scale)))
    mask = mask.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    mask = mask.rotate(degrees, Image.Resampling.BILINEAR, expand=True)
    return mask.crop(mask.getbbox())


def with_article(phrase: str) -> str:
    """Put ``a`` or ``an`` before a phrase."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def plural(name: str) -> str:
    """Several of a class: ``two anchors``, ``two dice``."""
    return _PLURALS.get(name, f"{name}s")
