"""Pictures of visitors and examples: checked, copied and made small once, then read as they are."""

import io
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageOps

from regionclip.data.images import ImageReadError, decode_image

from .inputs import InputError

MAX_PIXELS = 40_000_000
"""Of a picture: a request of one visitor must not take the memory of all."""
MIN_SIDE = 16
"""Pixels; less shows nothing."""
MAX_RATIO = 20
"""Longer side over shorter: beyond it, models see a line."""
BOX_SIDE = 4
"""Pixels that a drawn box must have at least, each way: less is a click that slipped."""
PREVIEW_SIDE = 1600
"""Pixels of the longer side of what is shown: a little more than most models see of a picture."""
THUMB_SIDE = 128
JPEG_QUALITY = 88


@dataclass(frozen=True, slots=True)
class Picture:
    """An image that can be read, as often as it takes.

    Attributes:
        path: A file of the demo's own; up to 40 megapixels to decode.
        name: What its owner calls it.
        size_hw: Height and width of what is read, upright.
        preview: The same as a JPEG of :data:`PREVIEW_SIDE` at most.
        thumbnail: And of :data:`THUMB_SIDE`.
    """

    path: Path
    name: str
    size_hw: tuple[int, int]
    preview: Path
    thumbnail: Path


def take_picture(
    upload: Path, stem: Path, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> Picture:
    """Copy an uploaded file once it has proved to be an image, whole and of a usual format.

    Args:
        upload: The file.
        stem: Of the files that are made; its folder exists.
        name: What its owner calls it; by default the file's own name.
        max_pixels: More are refused before they are decoded.

    Raises:
        InputError: It is no image, damaged, too large, too small or too thin, or not there.
    """
    name = upload.name if name is None else name
    if not upload.exists():  # two who upload the same file at once share it on its way in
        raise InputError(f"{name} has not arrived; upload it once more")
    try:
        image = decode_image(upload.read_bytes(), name=name, max_pixels=max_pixels)
    except ImageReadError as error:
        raise InputError(str(error)) from error
    shorter, longer = sorted(image.size)
    if shorter < MIN_SIDE:
        raise InputError(
            f"{name} has {image.width} x {image.height} pixels, too few to show anything; give an "
            f"image of at least {MIN_SIDE} x {MIN_SIDE}"
        )
    if longer > MAX_RATIO * shorter:
        raise InputError(
            f"{name} has {image.width} x {image.height} pixels, too thin to be looked at whole; "
            f"cut it into pieces at most {MAX_RATIO} times as long as they are wide"
        )
    path = stem.with_name(f"{stem.name}-{_safe(name)}")
    shutil.copyfile(upload, path)
    return with_previews(path, image, name=name)


def with_previews(path: Path, image: Image.Image, *, name: str) -> Picture:
    """A picture whose file exists, with the small ones beside it.

    Args:
        path: The file.
        image: What it holds, upright.
        name: What its owner calls it.
    """
    preview, thumbnail = (path.with_name(f"{path.name}.{kind}.jpg") for kind in ("large", "small"))
    large = scaled(image, PREVIEW_SIDE)
    preview.write_bytes(jpeg(large))
    thumbnail.write_bytes(jpeg(scaled(large, THUMB_SIDE)))
    return Picture(path, name, (image.height, image.width), preview, thumbnail)


def read_small(picture: Picture, max_side: int) -> Image.Image:
    """The picture, at most ``max_side`` pixels long, without decoding all of it."""
    with Image.open(picture.preview) as image:
        # JPEG is decoded at an eighth, a quarter or half of its size nearly for nothing
        image.draft("RGB", (max_side, max_side))
        image.load()  # before the file is closed
        return scaled(image, max_side)


def scaled(image: Image.Image, max_side: int) -> Image.Image:
    """The image, shrunk if its longer side has more pixels."""
    if max(image.size) > max_side:
        return ImageOps.contain(image, (max_side, max_side), Image.Resampling.LANCZOS)
    return image


def jpeg(image: Image.Image) -> bytes:
    """The image as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def checked_box(box: Sequence[float | int], picture: Picture) -> list[float]:
    """A drawn box, its corners in order and inside the picture.

    Raises:
        InputError: It is too small, or no box.
    """
    height, width = picture.size_hw
    corners = torch.tensor([float(each) for each in box])
    if corners.shape != (4,) or not corners.isfinite().all():
        raise InputError("that is no box; press the mouse on one corner and let go on the other")
    x0, x1 = sorted(corners[[0, 2]].clamp(0, width).tolist())
    y0, y1 = sorted(corners[[1, 3]].clamp(0, height).tolist())
    if x1 - x0 < BOX_SIDE or y1 - y0 < BOX_SIDE:
        raise InputError(
            "that box is too small; press the mouse on one corner of the object, draw, and let go "
            "on the opposite corner"
        )
    return [x0, y0, x1, y1]


def _safe(name: str) -> str:
    """A file's name that holds nothing but letters, digits, dots and dashes."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name)[-40:].lstrip(".")
