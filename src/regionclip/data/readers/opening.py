"""A data set from whatever the user names: its content tells its format."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Literal

from regionclip.data.datasets import Dataset

from .caption_tables import CAPTION_COLUMNS, IMAGE_COLUMNS, is_caption_header, read_caption_table
from .coco import read_coco
from .voc import find_voc_folder, read_voc
from .webdataset import is_tar, read_webdataset
from .yolo import read_yolo
from .yolo_folders import SAME_SPLIT, is_yolo

Format = Literal["coco", "voc", "yolo", "table", "webdataset"]
JSON_PATTERNS = (
    "instances_{split}.json",
    "{split}.json",
    "{split}/_annotations.coco.json",
    "annotations/instances_{split}.json",
    "annotations/instances_{split}[0-9]*.json",
    "lvis_v1_{split}.json",
)
"""Where a folder's json of a split is looked for."""
ANY_JSON_PATTERNS = (
    "instances*.json",
    "_annotations.coco.json",
    "*/_annotations.coco.json",
    "annotations/instances_*.json",
    "lvis_v1_*.json",
)
"""Where it is looked for if no split is named; there must be one only."""
SHARD = re.compile(r"(.*?)[-_.]?\d*\.tar")
"""The name of a webdataset shard: its split, then its number."""


@dataclass(frozen=True, slots=True)
class Location:
    """A data set that was recognised.

    Attributes:
        format: Of its files.
        path: A file, or the folder of VOC or YOLO.
        shards: The archives of a webdataset.
        split: What to read of a VOC or YOLO folder.
    """

    format: Format
    path: Path
    shards: tuple[Path, ...] = ()
    split: str | None = None


def open_dataset(
    source: str | Path, *, image_root: str | Path | None = None, split: str | None = None
) -> Dataset:
    """Read a data set; its content tells its format.

    Args:
        source: A json (COCO, LVIS, COCO captions); a csv or tsv of captions; a webdataset shard
            (tar); the yaml of a YOLO folder; or a folder: of Pascal VOC, of YOLO, of shards, or
            with jsons such as ``instances_train.json``, ``annotations/instances_train2017.json`` or
            Roboflow's ``train/_annotations.coco.json``.
        image_root: Folder of the images; by default where the format has them, or near the
            annotation file.
        split: ``train``, ``val``, ...: which part of a folder.

    Raises:
        ValueError: There is no such file or folder, it is of no known format or of two, the split
            is not there, or not named where there are several.
    """
    location = locate(Path(source), split)
    if location.format == "coco":
        return read_coco(location.path, image_root=image_root)
    if location.format == "voc":
        return read_voc(location.path, split=location.split, image_root=image_root)
    if location.format == "yolo":
        return read_yolo(location.path, split=location.split, image_root=image_root)
    if location.format == "table":
        return read_caption_table(location.path, image_root=image_root)
    return read_webdataset(location.shards)


def locate(path: Path, split: str | None = None) -> Location:
    """Recognise the format of a data set without reading it.

    Raises:
        ValueError: As :func:`open_dataset`.
    """
    if not path.exists():
        raise ValueError(f"{path} does not exist; give a file or folder of a data set")
    if path.is_file():
        location = _locate_file(path, split)
        if split is not None and location.format != "yolo":
            raise ValueError(
                f"{path} is a file, of which there is no split {split!r}; give a folder"
            )
        return location
    found: dict[str, Location] = {}
    for name, finder in FINDERS.items():
        location = finder(path, split)
        if location is not None:
            found[name] = location
    if len(found) > 1:
        raise ValueError(
            f"{path} could be read as {' and as '.join(found)}; name the file or the folder meant"
        )
    if not found:
        raise ValueError(_nothing_in(path, split))
    return next(iter(found.values()))


def _locate_file(path: Path, split: str | None) -> Location:
    if is_tar(path):
        return Location("webdataset", path, shards=(path,))
    if is_yolo(path):
        return Location("yolo", path, split=split)
    with path.open("rb") as file:
        head = file.read(1 << 16).decode("utf-8-sig", errors="replace").lstrip()
    if head.startswith(("{", "[")):
        return Location("coco", path)
    first_line = head.splitlines()[0] if head else ""
    if path.suffix.lower() in (".csv", ".tsv") or is_caption_header(first_line):
        return Location("table", path)
    raise ValueError(
        f"{path} is no data set; looked for a COCO or LVIS json, a YOLO yaml, an uncompressed tar "
        f"archive, and a table with a column among {', '.join(IMAGE_COLUMNS)} and one among "
        f"{', '.join(CAPTION_COLUMNS)}"
    )


def _find_voc(path: Path, split: str | None) -> Location | None:
    folder = find_voc_folder(path)
    return None if folder is None else Location("voc", folder.root, split=split)


def _find_yolo(path: Path, split: str | None) -> Location | None:
    return Location("yolo", path, split=split) if is_yolo(path) else None


def _find_json(path: Path, split: str | None) -> Location | None:
    if split is None:
        found = _matching(path, ANY_JSON_PATTERNS)
    else:
        spellings = (split, *SAME_SPLIT) if split in SAME_SPLIT else (split,)
        found = []
        for spelling in spellings:
            patterns = [each.format(split=escape(spelling)) for each in JSON_PATTERNS]
            found = found or _matching(path, patterns)
    if len(found) > 1:
        names = ", ".join(str(each.relative_to(path)) for each in found)
        raise ValueError(f"{path} has several annotation files ({names}); choose a split or a file")
    return Location("coco", found[0]) if found else None


def _find_shards(path: Path, split: str | None) -> Location | None:
    by_split: dict[str, list[Path]] = {}
    for shard in sorted(path.glob("*.tar")):
        match = SHARD.fullmatch(shard.name)
        by_split.setdefault(match[1] if match else shard.stem, []).append(shard)
    if not by_split:
        return None
    if split is None and len(by_split) > 1:
        raise ValueError(
            f"{path} has shards of several splits; choose one: {', '.join(sorted(by_split))}"
        )
    name = next(iter(by_split)) if split is None else split
    if name not in by_split:
        raise ValueError(
            f"{path} has no shards of the split {split!r}; there are: {', '.join(sorted(by_split))}"
        )
    return Location("webdataset", path, shards=tuple(by_split[name]))


FINDERS: Mapping[str, Callable[[Path, str | None], Location | None]] = {
    "Pascal VOC (Annotations)": _find_voc,
    "YOLO (data.yaml, or images and labels)": _find_yolo,
    "COCO (json)": _find_json,
    "webdataset (tar)": _find_shards,
}


def _matching(path: Path, patterns: Sequence[str]) -> list[Path]:
    return list(dict.fromkeys(each for one in patterns for each in sorted(path.glob(one))))


def _nothing_in(path: Path, split: str | None) -> str:
    jsons = ANY_JSON_PATTERNS if split is None else JSON_PATTERNS
    looked = ", ".join(each.replace("{split}", str(split)) for each in jsons)
    return (
        f"{path} has no data set of a known format; looked for Pascal VOC (Annotations, or VOC2007 "
        f"with it), YOLO (data.yaml, or images beside labels), COCO ({looked}) and webdataset "
        "(*.tar)"
    )
