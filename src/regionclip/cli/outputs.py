"""Detections from the journal to the formats that others read."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from regionclip.cli.console import UsageError
from regionclip.whole_files import replacing

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


@runtime_checkable
class Entries(Protocol):
    """Images with their detections: a journal, or anything else that lists them."""

    def entries(self) -> Iterator[dict[str, Any]]:
        """One per image: what :func:`detections_entry` keeps, and ``image``, its name."""
        ...


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
    """What the journal keeps of an image's detections; masks as COCO's run lengths."""
    from regionclip.detections.run_lengths import encode_masks

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
        "masks": None if found.masks is None else encode_masks(found.masks),
    }


def detections_of(entry: Mapping[str, Any], class_names: Sequence[str]) -> "Detections":
    """The detections that :func:`detections_entry` kept.

    Raises:
        UsageError: A mask is damaged.
    """
    import torch

    from regionclip.detections.run_lengths import decode_masks
    from regionclip.structures import Detections

    objectness, masks = entry["objectness"], entry["masks"]
    size_hw = (entry["size_hw"][0], entry["size_hw"][1])
    try:
        decoded = None if masks is None else decode_masks(masks, size_hw)
    except ValueError as error:
        raise UsageError(
            f"{entry['image']}: {error} in the output folder; use another --output, or "
            "--no-resume to start over"
        ) from error
    return Detections(
        boxes=torch.tensor(entry["boxes"], dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor(entry["scores"], dtype=torch.float32),
        labels=torch.tensor(entry["labels"], dtype=torch.int64),
        class_names=tuple(class_names),
        objectness=None if objectness is None else torch.tensor(objectness, dtype=torch.float32),
        masks=decoded,
    )


def rows_of(entry: Mapping[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """An entry with some of its detections: masks that are not wanted need not be decoded."""
    per_row = ("boxes", "scores", "labels", "objectness", "masks")
    kept = {name: entry[name] and [entry[name][row] for row in rows] for name in per_row}
    return {**entry, **kept}


def without_masks(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry whose detections are boxes alone."""
    return {**entry, "masks": None}


def write_detections(
    folder: Path,
    formats: Sequence[str],
    journal: Entries,
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


def image_ids(journal: Entries) -> dict[str, int]:
    """An id per image: those of the COCO json if all have different ones, else 1, 2, 3, ..."""
    own = {entry["image"]: entry["image_id"] for entry in journal.entries()}
    if None not in own.values() and len(set(own.values())) == len(own):
        return own
    return {name: index for index, name in enumerate(own, start=1)}


def _results(journal: Entries, category_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Rows of COCO's results format, which its evaluation reads."""
    ids = image_ids(journal)
    for entry in journal.entries():
        rows = detections_of(without_masks(entry), ()).to_coco(ids[entry["image"]], category_ids)
        for row, mask in zip(rows, _run_lengths(entry), strict=True):
            yield row if mask is None else {**row, "segmentation": mask}


def _run_lengths(entry: Mapping[str, Any]) -> list[dict[str, Any] | None]:
    """The mask of each row as COCO writes it, ``None`` where there are none."""
    if entry["masks"] is None:
        return [None] * len(entry["boxes"])
    return [{"size": entry["size_hw"], "counts": counts} for counts in entry["masks"]]


def _area(row: Mapping[str, Any]) -> float:
    """Pixels of a result's mask, or of its box."""
    from regionclip.detections.run_lengths import mask_areas

    if "segmentation" not in row:
        return row["bbox"][2] * row["bbox"][3]
    height, width = row["segmentation"]["size"]
    return float(mask_areas([row["segmentation"]["counts"]], (height, width))[0])


def _write_coco(
    path: Path, journal: Entries, class_names: Sequence[str], category_ids: Sequence[int]
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
        {"id": index, **row, "area": _area(row), "iscrowd": 0}
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


def _write_parquet(path: Path, journal: Entries, class_names: Sequence[str]) -> None:
    """One row per detection; the columns are those that ``--proposals`` reads, and more.

    Masks, if there are any, are COCO's run lengths: ``{"size", "counts"}``.
    """
    import pyarrow as pa
    from pyarrow import parquet

    corners = ("x0", "y0", "x1", "y1")
    has_masks = any(entry["masks"] is not None for entry in islice(journal.entries(), 1))
    mask = pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])
    schema = pa.schema(
        [
            ("image", pa.string()),
            *((corner, pa.float32()) for corner in corners),
            ("score", pa.float32()),
            ("label", pa.int32()),
            ("name", pa.string()),
            ("objectness", pa.float32()),
            *([("mask", mask)] if has_masks else []),
        ]
    )
    with parquet.ParquetWriter(path, schema) as writer:
        rows: list[dict[str, Any]] = []
        for entry in journal.entries():
            found = detections_of(without_masks(entry), class_names).to_dict()
            for row, mask in zip(found, _run_lengths(entry), strict=True):
                box = dict(zip(corners, row.pop("box"), strict=True))
                rows.append({"image": entry["image"], **box, **row, "mask": mask})
            if len(rows) >= ROWS_PER_GROUP:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, schema=schema))
