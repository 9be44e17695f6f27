"""What a file costs to decode beyond the pixels that it shows, told before it is decoded.

A few bytes may ask for a lot: each scan of a JPEG goes over all its pixels again, and of a TIFF
whole tiles are decoded, however little of them lies inside the image.
"""

import io
import re
from dataclasses import dataclass
from math import ceil

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")
"""What begins a segment with a length, or ends the picture: FF and a byte.

Not RST0 to RST7, which are part of scans, and SOI (ITU-T T.81, table B.1); nor what comes before
C0, which is reserved: libjpeg hunts through it for the next marker, so it is not skipped here
either. FF 00 is an FF of the data, and FF FF filling."""
_SCAN, _END = 0xDA, 0xD9
_TILE_SIDES = (322, 323)
_ROWS_PER_STRIP = 278
_BYTE_COUNTS = (325, 279)
"""TIFF 6.0, tags of tiles and of strips."""


MOST_READS = 100_000
"""Pieces that a file is read in. Pillow takes one or a few for each segment, chunk or tile, and for
each byte between the segments of a JPEG; a PNG of 20 MB in chunks of 4 kB takes 20 000. Segments of
a JPEG are counted in as many steps, scans among them."""


class CostlyImageError(ValueError):
    """A file asks for more work than a picture does; the message says what for."""


class CountedReads(io.BytesIO):
    """A file in memory that is read in at most :data:`MOST_READS` pieces."""

    def __init__(self, content: bytes) -> None:
        """Hold a file."""
        super().__init__(content)
        self._num_reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """As any file does.

        Raises:
            CostlyImageError: It was read too often.
        """
        self._num_reads += 1
        if self._num_reads > MOST_READS:
            raise CostlyImageError(f"it consists of more than {MOST_READS} pieces")
        return super().read(size)


@dataclass(frozen=True, slots=True)
class DecodingCost:
    """What decoding the first picture of a file takes.

    Attributes:
        pixels_at_once: Of the largest part that is decoded in one piece.
        pixels_in_all: Decoded one after another, each as often as the file asks for.
    """

    pixels_at_once: int
    pixels_in_all: int


def decoding_cost(image: Image.Image, content: bytes) -> DecodingCost:
    """What an opened image will cost.

    Args:
        image: Its header is read.
        content: The whole file.

    Raises:
        CostlyImageError: Parts of a TIFF lie over each other, or a JPEG has too many segments.
    """
    if isinstance(image, TiffImageFile):
        return _tiff_cost(image, content)
    pixels = image.width * image.height
    scans = num_scans(content) if image.format in ("JPEG", "MPO") else 1
    return DecodingCost(pixels, pixels * max(scans, 1))


def num_scans(content: bytes) -> int:
    """Scans of a JPEG's first picture; those of pictures that are embedded or follow are not its.

    Raises:
        CostlyImageError: It has more than :data:`MOST_READS` segments.

    Source:
        ITU-T T.81, annex B: segments with a length of two bytes, scans up to the next marker.
    """
    count = 0
    position = 0
    for _ in range(MOST_READS):
        found = _MARKER.search(content, position)
        if found is None or content[found.end() - 1] == _END:
            return count
        position = found.end()
        count += content[position - 1] == _SCAN
        position += int.from_bytes(content[position : position + 2], "big")
    raise CostlyImageError(f"it consists of more than {MOST_READS} pieces")


def _tiff_cost(image: TiffImageFile, content: bytes) -> DecodingCost:
    tags = image.tag_v2
    # not image.size: some versions of PIL have turned it by now
    width, height = tags[256], tags[257]
    across, down = (tags.get(tag) for tag in _TILE_SIDES)
    if not across or not down:
        across, down = width, min(tags.get(_ROWS_PER_STRIP, height), height) or height
    at_once = across * down
    in_all = at_once * ceil(width / across) * ceil(height / down)
    if image.info.get("compression") in ("jpeg", "tiff_jpeg"):
        counts = next((tags[tag] for tag in _BYTE_COUNTS if tag in tags), ())
        # so that no scan is decoded for more than one part
        if sum(counts) > len(content):
            raise CostlyImageError("its parts lie over each other")
        in_all = max(in_all, at_once * content.count(bytes((0xFF, _SCAN))))
    return DecodingCost(at_once, in_all)
