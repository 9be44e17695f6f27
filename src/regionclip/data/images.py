"""Anything a user calls an image, read into RGB pixels or refused in one sentence."""

import io
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor

from regionclip.data.datasets import Member
from regionclip.data.decoding_cost import CostlyImageError, CountedReads, decoding_cost
from regionclip.structures import ImageSource

MAX_PIXELS = 178_956_970
"""Above this PIL refuses to open a file as a decompression bomb: twice its MAX_IMAGE_PIXELS."""

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation to what turns the pixels upright (EXIF 2.3, tag 0x0112)."""
SWAP_SIDES = (5, 6, 7, 8)
"""Those of them that swap height and width."""

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


class ImageReadError(ValueError):
    """An image cannot be read; the message names it, the reason and the way out."""


def read_image(
    source: ImageSource, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Read an image as 8-bit RGB, upright.

    The EXIF orientation is applied; transparency is composited on white; 16-bit grey values are
    scaled from 0-65535, not clipped, and float ones from 0-1; of an animation the first frame is
    taken; colour profiles are ignored. Nothing is downloaded.

    Args:
        source: A path; a member of a tar archive; a PIL image; an RGB ``uint8`` array
            ``(H, W, 3)``; an RGB tensor ``(3, H, W)`` that is ``uint8`` or float in [0, 1]
            (rounded to 8 bits).
        name: How errors call an image that is not a path.
        max_pixels: Files with more are refused before they are decoded. PIL's own limit holds too.

    Raises:
        ImageReadError: It cannot be read: not there, not an image, damaged, too large, or an array
            or tensor of another type, shape or range.
    """
    if isinstance(source, str | Path | Member):
        with _opened(source, max_pixels) as image:
            return _upright_rgb(image, str(source))
    if isinstance(source, Image.Image):
        name = name or str(getattr(source, "filename", "")) or "the PIL image"
        with _decoding(name):
            return _upright_rgb(source, name)
    name = name or "the image"
    is_array = isinstance(source, np.ndarray)
    return Image.fromarray(
        _pixels_of_array(source, name) if is_array else _pixels_of_tensor(source, name)
    )


UPLOAD_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP")
"""What is decoded of strangers' bytes: none of these starts another program, as EPS does."""
MOST_PASSES = 16
"""Scans of a JPEG of as many pixels as may be; smaller ones may have more. libjpeg's own
progressive files have 10 (``jpeg_simple_progression``)."""
_BAND_PIXELS = 1 << 18
"""Turned into 8-bit RGB at a time, so that what is between takes no memory to speak of."""


def decode_image(content: bytes, *, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read the bytes of an image file of a usual format, as :func:`read_image` reads the file.

    The bytes may be a stranger's: beside the file, no more than 16 bytes of memory are taken
    for each pixel of ``max_pixels``, and no more time than a picture of that size may need.

    Args:
        content: The whole file.
        name: How errors call it.
        max_pixels: As for :func:`read_image`.

    Raises:
        ImageReadError: As :func:`read_image`; or it costs more than its pixels do.
    """
    if not content:
        raise ImageReadError(f"{name}: is empty (0 bytes); send it again")
    with _opened(CountedReads(content), max_pixels, name, UPLOAD_FORMATS) as image:
        cost = decoding_cost(image, content)
        if cost.pixels_at_once > max_pixels:
            raise CostlyImageError(
                f"a tile of it has {cost.pixels_at_once} pixels, and {max_pixels} are taken"
            )
        if cost.pixels_in_all > MOST_PASSES * max_pixels:
            raise CostlyImageError(
                f"its scans or tiles go over {cost.pixels_in_all} pixels, and "
                f"{MOST_PASSES * max_pixels} are taken"
            )
        return _upright_rgb(image, name)


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a file says about its pixels.

    Attributes:
        size_hw: Height and width of what :func:`read_image` gives.
        exif_turn: What brings the stored pixels upright: nothing, a flip or turn that keeps the
            size, or one that swaps height and width.
    """

    size_hw: tuple[int, int]
    exif_turn: Literal["none", "keeps size", "swaps sides"]


def read_header(source: str | Path | Member) -> ImageHeader:
    """Read the size of an image without decoding its pixels.

    Raises:
        ImageReadError: It is not there, not an image, or too large.
    """
    with _opened(source, MAX_PIXELS) as image:
        width, height = image.size
        if isinstance(image, TiffImageFile):  # some versions of PIL turn it here, others on load()
            tags = image.tag_v2
            width, height = tags[ExifTags.Base.ImageWidth], tags[ExifTags.Base.ImageLength]
        # a PNG's EXIF may follow its pixels, and PIL decodes them to get there
        is_known_upright = isinstance(image, PngImageFile) and _ends_with_pixels(image)
        orientation = None if is_known_upright else _orientation(image)
        if orientation not in UPRIGHT:
            return ImageHeader((height, width), "none")
        if orientation in SWAP_SIDES:
            return ImageHeader((width, height), "swaps sides")
        return ImageHeader((height, width), "keeps size")


def _ends_with_pixels(image: PngImageFile) -> bool:
    """Whether a PNG says nothing about itself, before or after its pixels."""
    if image.info.keys() & {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}:
        return False
    file = image.fp
    if file is None:
        return False
    start = file.tell()
    file.seek(8)  # its signature
    kinds = []
    while len(head := file.read(8)) == 8:
        kinds.append(head[4:])
        file.seek(int.from_bytes(head[:4], "big") + 4, io.SEEK_CUR)
    file.seek(start)
    return kinds[-2:] == [b"IDAT", b"IEND"]


@contextmanager
def _opened(
    source: str | Path | Member | io.BytesIO,
    max_pixels: int,
    name: str | None = None,
    formats: tuple[str, ...] | None = None,
) -> Iterator[Image.Image]:
    """An image whose header is read; whatever its decoder raises becomes one sentence."""
    name = str(source) if name is None else name
    file: str | io.BytesIO
    if isinstance(source, io.BytesIO):
        file = source
    elif isinstance(source, Member):
        file = io.BytesIO(read_member(source))
    else:
        _check_file(name)
        file = name
    with _decoding(name), Image.open(file, formats=formats) as image:
        if image.width * image.height > max_pixels:
            raise _too_large(name, f"{image.width}x{image.height} is", max_pixels)
        yield image


def read_member(member: Member) -> bytes:
    """Read the bytes of a file in a tar archive.

    Raises:
        ImageReadError: The archive is not there or ends before the member does.
    """
    try:
        with member.archive.open("rb") as archive:
            archive.seek(member.offset)
            content = archive.read(member.size)
    except OSError as error:
        raise ImageReadError(f"{member}: cannot be read ({error.strerror})") from error
    if len(content) < member.size:
        raise ImageReadError(
            f"{member}: its archive ends {member.size - len(content)} bytes too early; copy or "
            "download it again"
        )
    if not content:
        raise ImageReadError(f"{member}: is empty (0 bytes); write the archive again")
    return content


def _check_file(path: str) -> None:
    """Refuse what no decoder needs to look at."""
    if URL.match(path):
        raise ImageReadError(f"{path}: is a URL and nothing is fetched here; download it first")
    file = Path(path)
    try:
        if not file.exists():
            raise ImageReadError(f"{path}: there is no such file; check the path")
        if file.is_dir():
            raise ImageReadError(f"{path}: is a folder; give the images in it")
        if not file.is_file():
            raise ImageReadError(f"{path}: is not a regular file; save the image to a file first")
        if file.stat().st_size == 0:
            raise ImageReadError(f"{path}: is empty (0 bytes); copy or download it again")
    except OSError as error:
        raise ImageReadError(f"{path}: cannot be opened ({error.strerror})") from error


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises into one sentence, and keep its warnings to itself."""
    try:
        with _PILLOW_IS_QUIET:
            yield
    except ImageReadError:
        raise
    except CostlyImageError as error:
        raise ImageReadError(
            f"{name}: costs too much to decode ({error}); save it again as a plain JPEG or PNG"
        ) from error
    except UnidentifiedImageError as error:
        raise ImageReadError(
            f"{name}: is not an image that Pillow can read; convert it to JPEG, PNG, WebP or TIFF"
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_large(name, "it has", 2 * (Image.MAX_IMAGE_PIXELS or 0)) from error
    except PermissionError as error:
        raise ImageReadError(f"{name}: may not be read ({error.strerror})") from error
    except Exception as error:  # a decoder given hostile bytes raises anything
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise ImageReadError(
            f"{name}: is damaged or cut off ({reason}); copy or download it again"
        ) from error


def _too_large(name: str, it_has: str, max_pixels: int) -> ImageReadError:
    return ImageReadError(
        f"{name}: is too large to decode safely ({it_has} more than {max_pixels} pixels); shrink "
        "it or cut it into tiles"
    )


def _upright_rgb(image: Image.Image, name: str) -> Image.Image:
    image.load()
    # after load(): PIL turns TIFF files by itself, and a PNG's EXIF may follow its pixels
    orientation = _orientation(image)
    image = _rgb(image, name)
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def _orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # broken metadata of a sound picture: viewers show it as stored, too
        return None


def _rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _from_deep_grey(image, name)
    if image.mode.lower() in ("la", "pa", "rgba") or "transparency" in image.info:
        return _in_bands(image, _on_white)
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise ImageReadError(
            f"{name}: its colours ({image.mode}) cannot be turned into RGB; save it as RGB"
        ) from error


def _in_bands(image: Image.Image, to_rgb: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Turn an image into RGB, some rows at a time."""
    result = Image.new("RGB", image.size)
    for top, band in _bands(image):
        result.paste(to_rgb(band), (0, top))
    return result


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The rows of an image from the top, some at a time, with the number of the first."""
    rows = max(_BAND_PIXELS // image.width, 1)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _on_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _range(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _from_deep_grey(image: Image.Image, name: str) -> Image.Image:
    """Scale 16-bit or float grey values to 8 bits."""
    ranges = [_range(np.asarray(band)) for _, band in _bands(image)]
    low, high = np.min(ranges), np.max(ranges)
    full = 1 if image.mode == "F" else 65535
    # PIL also calls 16-bit files "I", of 32 bits: what exceeds 16 has no agreed white
    if not (low >= 0 and high <= full):  # also true of NaN
        raise ImageReadError(
            f"{name}: its grey values reach from {low:g} to {high:g}, expected 0 to {full}; save "
            "it with 8 or 16 bits per value"
        )

    def to_rgb(band: Image.Image) -> Image.Image:
        values = np.asarray(band).astype(np.float64)
        return Image.fromarray(np.rint(values * (255 / full)).astype(np.uint8)).convert("RGB")

    return _in_bands(image, to_rgb)


def _pixels_of_array(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ImageReadError(
            f"{name}: an array must be RGB, uint8, of shape (H, W, 3), got {array.dtype} of shape "
            f"{array.shape}; convert it, or give a float tensor (3, H, W) in [0, 1]"
        )
    return array


def _pixels_of_tensor(tensor: Tensor, name: str) -> np.ndarray:
    is_known = tensor.dtype == torch.uint8 or tensor.is_floating_point()
    if not is_known or tensor.ndim != 3 or tensor.shape[0] != 3 or tensor.numel() == 0:
        raise ImageReadError(
            f"{name}: a tensor must be RGB of shape (3, H, W), uint8 or float in [0, 1], got "
            f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
        )
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()
        low, high = tensor.aminmax()
        if not (low >= 0 and high <= 1):  # also true of NaN
            raise ImageReadError(
                f"{name}: a float tensor must lie in [0, 1], got values from {low:g} to {high:g}; "
                "divide by 255, or undo the normalisation"
            )
        tensor = (tensor * 255).round().to(torch.uint8)
    return tensor.permute(1, 2, 0).contiguous().numpy()


class _QuietPillow:
    """Ignores PIL's warnings for as long as any thread reads an image.

    ``warnings.catch_warnings`` is not made for threads: whoever leaves first would restore the
    filters under the others' feet. So the first one in sets them and the last one out restores.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_readers = 0
        self._saved = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._num_readers == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._num_readers += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._num_readers -= 1
            if self._num_readers == 0:
                self._saved.__exit__(None, None, None)


_PILLOW_IS_QUIET = _QuietPillow()
