"""Captions in a csv or tsv: one row per image and caption."""

import csv
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from regionclip.data.datasets import Dataset, Sample
from regionclip.data.sources import find_image_root

IMAGE_COLUMNS = ("image", "file", "filepath", "file_name", "filename", "image_path", "path")
CAPTION_COLUMNS = ("caption", "title", "text")

_log = logging.getLogger(__name__)


def read_caption_table(path: str | Path, *, image_root: str | Path | None = None) -> Dataset:
    """Read a csv or tsv with a header; rows of the same image gather.

    Args:
        path: It needs a column among :data:`IMAGE_COLUMNS` and one among :data:`CAPTION_COLUMNS`,
            in any case; others are passed over. Tabs part the columns if the header has one.
        image_root: Folder that the images' paths start from; by default the table's own folder or
            one near it, see :func:`~regionclip.data.sources.find_image_root`.

    Returns:
        Images in the order of their first rows, without categories. Blank captions are left out,
        their images are not. In captions that are not in UTF-8, U+FFFD stands for what cannot be
        read, and a warning is logged with their number.

    Raises:
        ValueError: It is no such table, or a row names no image, or not in UTF-8.
    """
    path = Path(path)
    try:
        # newline="": a caption in quotes may have several lines
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            captions = _captions_in(file, path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read as a table: {error}") from error
    names = list(captions)
    root = find_image_root(path, names) if image_root is None else Path(image_root)
    samples = (Sample(name, root / name, name, captions=tuple(captions[name])) for name in names)
    return Dataset(str(path), (), tuple(samples))


def is_caption_header(line: str) -> bool:
    """Whether a table that begins so is one of captions."""
    columns = next(csv.reader([line], delimiter=_delimiter(line)), [])
    return all(_find(columns, each) is not None for each in (IMAGE_COLUMNS, CAPTION_COLUMNS))


def _delimiter(header: str) -> str:
    return "\t" if "\t" in header else ","


def _find(columns: Sequence[str], names: Sequence[str]) -> int | None:
    lower = [each.strip().lower() for each in columns]
    return next((lower.index(name) for name in names if name in lower), None)


def _captions_in(file: TextIO, path: Path) -> dict[str, list[str]]:
    delimiter = _delimiter(file.readline())
    file.seek(0)
    rows = csv.reader(file, delimiter=delimiter)
    header = next(rows, [])
    places = []
    for what, names in (("images", IMAGE_COLUMNS), ("captions", CAPTION_COLUMNS)):
        place = _find(header, names)
        if place is None:
            raise ValueError(
                f"{path} has no column of {what}; expected one of {', '.join(names)}, got "
                f"{', '.join(header)[:200] or 'an empty file'}"
            )
        places.append(place)
    captions: dict[str, list[str]] = {}
    num_damaged = 0
    for row in rows:
        if not row:
            continue
        if len(row) <= max(places) or not row[places[0]].strip():
            raise ValueError(f"{path}:{rows.line_num}: the row has no image or no caption")
        name, caption = (_mended(row[place]).strip() for place in places)
        if name != row[places[0]].strip():
            raise ValueError(f"{path}:{rows.line_num}: the image {name!r} is not named in UTF-8")
        num_damaged += caption != row[places[1]].strip()
        captions.setdefault(name, [])
        if caption:
            captions[name].append(caption)
    if num_damaged:
        _log.warning("%s: %d captions are not in UTF-8; they are kept", path, num_damaged)
    return captions


def _mended(text: str) -> str:
    """Text with U+FFFD for bytes that are no UTF-8, which ``surrogateescape`` has let in."""
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
