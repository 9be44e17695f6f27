"""Files of a few bytes that ask for hours or gigabytes, and honest ones beside them."""

import io
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from regionclip.data.decoding_cost import CostlyImageError, num_scans
from regionclip.data.images import ImageReadError, decode_image

SIDE = 64
PICTURE = Image.fromarray(
    np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
)


def written(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_scans(count: int) -> bytes:
    """A progressive JPEG that repeats its last scan."""
    plain = written(PICTURE, "JPEG", progressive=True)
    last = plain[plain.rindex(b"\xff\xda") : -2]
    return plain[:-2] + last * (count - num_scans(plain)) + plain[-2:]


def tiled_tiff(side: int, tile: int) -> bytes:
    """A grey TIFF whose single tile may be larger than it is."""
    content = zlib.compress(bytes(tile * tile))
    entries = {256: side, 257: side, 258: 8, 259: 8, 262: 1, 277: 1}
    entries |= {322: tile, 323: tile, 324: 8 + 2 + 12 * 10 + 4, 325: len(content)}
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + rows + bytes(4) + content


def decoded(content: bytes, max_pixels: int = SIDE * SIDE) -> Image.Image:
    return decode_image(content, name="upload", max_pixels=max_pixels)


def test_scans_are_those_of_the_first_picture() -> None:
    plain = written(PICTURE, "JPEG")
    assert num_scans(plain) == 1
    assert num_scans(written(PICTURE, "JPEG", progressive=True)) == 10
    thumbnail = written(PICTURE.resize((8, 8)), "JPEG", progressive=True)
    assert num_scans(written(PICTURE, "JPEG", comment=thumbnail)) == 1
    assert num_scans(plain + thumbnail) == 1
    assert num_scans(with_scans(300)) == 300
    # a reserved marker cannot hide scans in what looks like its content
    hidden = plain[:-2] + b"\xff\x02\x60\x00" + plain[plain.rindex(b"\xff\xda") :]
    assert num_scans(hidden) == 2


@pytest.mark.parametrize("filling", [b"\xff\xd0", b"\xff\xbf", b"\xff\xe0\0\2"])
def test_scans_of_a_file_full_of_markers_are_counted_in_a_moment(filling: bytes) -> None:
    plain = written(PICTURE, "JPEG")
    few = plain[:2] + filling * 1000 + plain[2:]
    assert num_scans(few) == 1
    begun = time.process_time()
    # 20 MB: one step for each of these markers would take seconds
    full = plain[:2] + filling * (20_000_000 // len(filling)) + plain[2:]
    if filling == b"\xff\xe0\0\2":
        with pytest.raises(CostlyImageError, match="more than 100000 pieces"):
            num_scans(full)
    else:
        assert num_scans(full) == 1
    assert time.process_time() - begun < 1.5


def test_a_jpeg_may_have_as_many_scans_as_its_pixels_allow() -> None:
    assert decoded(with_scans(16)).size == (SIDE, SIDE)
    with pytest.raises(ImageReadError, match=r"upload: costs too much .* 69632 pixels, and 65536"):
        decoded(with_scans(17))
    assert decoded(with_scans(17), 2 * SIDE * SIDE).size == (SIDE, SIDE)


def test_a_tiff_is_weighed_by_its_tiles() -> None:
    assert decoded(tiled_tiff(40, 64)).size == (40, 40)
    with pytest.raises(ImageReadError, match="a tile of it has 6400 pixels, and 4096 are taken"):
        decoded(tiled_tiff(16, 80))
    assert decoded(written(PICTURE, "TIFF", compression="jpeg")).size == (SIDE, SIDE)
    bomb = with_scans(40)
    strip = written(PICTURE, "TIFF", compression="jpeg")
    with pytest.raises(ImageReadError, match="scans or tiles go over"):
        decoded(strip + bomb)


def test_a_narrow_tiff_in_wide_tiles_is_weighed_by_all_of_them() -> None:
    with Image.open(io.BytesIO(tiled_tiff(64, 64))) as image:
        assert image.size == (64, 64)
    narrow = bytearray(tiled_tiff(64, 64))
    narrow[10 + 8 : 10 + 12] = struct.pack("<I", 1)  # its width
    narrow[22 + 8 : 22 + 12] = struct.pack("<I", 64 * 17)  # its height
    with pytest.raises(ImageReadError, match="scans or tiles go over 69632 pixels"):
        decoded(bytes(narrow))


@pytest.mark.parametrize("filling", [b"\xff" * 110_000, b"\xff\xfe\0\2" * 60_000])
def test_a_file_in_too_many_pieces_is_refused(filling: bytes) -> None:
    plain = written(PICTURE, "JPEG")
    with pytest.raises(ImageReadError, match="more than 100000 pieces"):
        decoded(plain[:2] + filling + plain[2:])


@pytest.mark.parametrize("bits", [16, 32])
def test_deep_grey_takes_no_more_memory_than_its_pixels(bits: int) -> None:
    values = np.zeros((1500, 1500), dtype=np.uint16 if bits == 16 else np.float32)
    values[-1, -1] = 65535 if bits == 16 else 1
    content = written(Image.fromarray(values), "TIFF", compression="tiff_adobe_deflate")
    tracemalloc.start()
    try:
        picture = decoded(content, values.size)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert picture.getpixel((1499, 1499)) == (255, 255, 255)
    # numpy's part; float64 of all values at once would take 8 per pixel and more
    assert most < 8 * values.size
