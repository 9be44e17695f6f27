"""Detections from the journal to the formats that others read."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regionclip.cli.console import UsageError
from regionclip.cli.files import replacing
from regionclip.cli.journal import Journal

if TYPE_CHECKING:
    from regionclip.data.sources import NamedSource
    from regionclip.structures import Detections

FORMATS = {
    "coco": "detections.json",
    "coco-results": "results.json",
    "parquet": "detections.parquet",
}
"""What ``--format`` takes, and the file it makes."""
ROWS_PER_GROUP = 1 << 16


def parse_formats(text: str) -> tuple[str, ...]:
    """Formats from a list with commas.

    Raises:
        UsageError: One is unknown.
    """
    formats = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for each in formats:
        if each not in FORMATS:
            raise UsageError(f"--format {each}: is unknown; expected some of {', '.join(FORMATS)}")
    return formats


def detections_entry(source: "NamedSource", found: "Detections", size_hw: tuple[int, int]) -> dict:
    """What the journal keeps of an image's detections."""
    objectness = None if found.objectness is None else found.objectness.tolist()
    return {
        # what a COCO json calls the image, so that its evaluation finds it; else the path
        "file_name": source.name if source.image_id is None else source.relative,
        "image_id": source.image_id,
        "size_hw": list(size_hw),
        "boxes": found.boxes.tolist(),
        "scores": found.scores.tolist(),
        "labels": found.labels.tolist(),
        "objectness": objectness,
    }


def detections_of(entry: Mapping[str, Any], class_names: Sequence[str]) -> "Detections":
    """The detections that :func:`detections_entry` kept."""
    import torch

    from regionclip.structures import Detections

    objectness = entry["objectness"]
    return Detections(
        boxes=torch.tensor(entry["boxes"], dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor(entry["scores"], dtype=torch.float32),
        labels=torch.tensor(entry["labels"], dtype=torch.int64),
        class_names=tuple(class_names),
        objectness=None if objectness is None else torch.tensor(objectness, dtype=torch.float32),
    )


def write_detections(
    folder: Path,
    formats: Sequence[str],
    journal: Journal,
    class_names: Sequence[str],
    category_ids: Sequence[int],
) -> list[Path]:
    """Write the journal's detections in each format, image by image, whole files or none.

    Args:
        folder: Where to.
        formats: Keys of :data:`FORMATS`.
        journal: Its entries are those of :func:`detections_entry`.
        class_names: By label.
        category_ids: By label; COCO's formats name classes by these.

    Returns:
        The files.
    """
    paths = []
    for each in formats:
        path = folder / FORMATS[each]
        with replacing(path) as partial:
            if each == "parquet":
                _write_parquet(partial, journal, class_names)
            elif each == "coco":
                _write_coco(partial, journal, class_names, category_ids)
            else:
                with partial.open("w", encoding="utf-8") as file:
                    _write_list(file, _results(journal, category_ids))
        paths.append(path)
    return paths


def image_ids(journal: Journal) -> dict[str, int]:
    """An id per image: those of the COCO json if all have different ones, else 1, 2, 3, ..."""
    own = {entry["image"]: entry["image_id"] for entry in journal.entries()}
    if None not in own.values() and len(set(own.values())) == len(own):
        return own
    return {name: index for index, name in enumerate(own, start=1)}


def _results(journal: Journal, category_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Rows of COCO's results format, which its evaluation reads."""
    ids = image_ids(journal)
    for entry in journal.entries():
        yield from detections_of(entry, ()).to_coco(ids[entry["image"]], category_ids)


def _write_coco(
    path: Path, journal: Journal, class_names: Sequence[str], category_ids: Sequence[int]
) -> None:
    """A COCO data set with scores, which labelling tools read."""
    ids = image_ids(journal)
    images = (
        {
            "id": ids[entry["image"]],
            "file_name": entry["file_name"],
            "width": entry["size_hw"][1],
            "height": entry["size_hw"][0],
        }
        for entry in journal.entries()
    )
    annotations = (
        {"id": index, **row, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}
        for index, row in enumerate(_results(journal, category_ids), start=1)
    )
    categories = [
        {"id": own, "name": name} for own, name in zip(category_ids, class_names, strict=True)
    ]
    with path.open("w", encoding="utf-8") as file:
        file.write('{"info": {"description": "detections by regionclip"},\n"categories": ')
        _write_list(file, iter(categories))
        file.write(',\n"images": ')
        _write_list(file, images)
        file.write(',\n"annotations": ')
        _write_list(file, annotations)
        file.write("}\n")


def _write_list(file: Any, rows: Iterator[dict[str, Any]]) -> None:
    """A JSON list, row by row: a million images do not fit into memory."""
    file.write("[")
    for index, row in enumerate(rows):
        file.write(",\n" if index else "\n")
        file.write(json.dumps(row, ensure_ascii=False))
    file.write("]")


def _write_parquet(path: Path, journal: Journal, class_names: Sequence[str]) -> None:
    """One row per detection; the columns are those that ``--proposals`` reads, and more."""
    import pyarrow as pa
    from pyarrow import parquet

    corners = ("x0", "y0", "x1", "y1")
    schema = pa.schema(
        [
            ("image", pa.string()),
            *((corner, pa.float32()) for corner in corners),
            ("score", pa.float32()),
            ("label", pa.int32()),
            ("name", pa.string()),
            ("objectness", pa.float32()),
        ]
    )
    with parquet.ParquetWriter(path, schema) as writer:
        rows: list[dict[str, Any]] = []
        for entry in journal.entries():
            for row in detections_of(entry, class_names).to_dict():
                box = dict(zip(corners, row.pop("box"), strict=True))
                rows.append({"image": entry["image"], **box, **row})
            if len(rows) >= ROWS_PER_GROUP:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, schema=schema))
