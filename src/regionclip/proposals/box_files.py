"""The file formats that boxes come in, checked row by row."""

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from pyarrow import csv, parquet
from torch import Tensor

CORNERS = ("x0", "y0", "x1", "y1")
COLUMNS = ("image", *CORNERS)
OBJECTNESS = "objectness"
FEATURE = "feature"
"""A vector per box; never read together with the boxes, being a hundred times as large."""


@dataclass(frozen=True, slots=True)
class ImageBoxes:
    """What a file says about one image.

    Attributes:
        boxes: ``xyxy`` in pixels of the original image, neither clipped nor dropped.
        objectness: Probabilities in [0, 1], or ``None``.
        read_features: Reads the boxes' vectors, ``(R, D)``; ``None`` if there are none, or none
            are wanted.
    """

    boxes: Float[Tensor, "R 4"]
    objectness: Float[Tensor, " R"] | None
    read_features: Callable[[], Tensor] | None = None


def read_columns_file(path: Path) -> dict[str, ImageBoxes]:
    """Read a Parquet or CSV file with the columns ``image, x0, y0, x1, y1[, objectness]``.

    Raises:
        ValueError: A column is missing or not numeric, or a row is not a box.
    """
    table = _read_columns(path)
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise ValueError(
            f"{path} has no column {', '.join(missing)}; expected {', '.join(COLUMNS)} (pixels of "
            f"the original image) and optionally {OBJECTNESS} (0 to 1), found "
            f"{', '.join(table.column_names[:10])}"
        )
    corners = np.stack([_numbers(table, name, path) for name in CORNERS], axis=1)
    has_objectness = (
        OBJECTNESS in table.column_names and table[OBJECTNESS].null_count < table.num_rows
    )
    objectness = _numbers(table, OBJECTNESS, path) if has_objectness else None
    _check_rows(corners, objectness, str(path))
    names = _image_names(table, path)
    codes = names.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    counts = np.bincount(codes, minlength=len(names.dictionary))
    images = {}
    for name, count, end in zip(
        names.dictionary.to_pylist(), counts, np.cumsum(counts), strict=True
    ):
        rows = order[end - count : end]
        images[name] = _image_boxes(corners[rows], None if objectness is None else objectness[rows])
    return images


def read_coco_file(path: Path, *, images: str | Path | None) -> dict[str, ImageBoxes]:
    """Read COCO annotations or results; see :func:`~regionclip.proposals.table.read_box_table`.

    Returns:
        By file name, images without boxes included; results without ``images`` by image id.

    Raises:
        ValueError: The file is not such a json, or an entry is wrong.
    """
    content = _read_json(path)
    if isinstance(content, dict):
        entries, names = content.get("annotations"), _file_names(content, path)
        if not isinstance(entries, list):
            raise ValueError(f"{path} has no list of annotations; is it a COCO json?")
    else:
        entries = content
        names = None if images is None else _file_names(_read_json(Path(images)), Path(images))
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict) or "bbox" not in entry or "image_id" not in entry:
            raise ValueError(f"{path}: entry {index} has no bbox or no image_id")
        if entry.get("iscrowd"):
            continue
        key = str(entry["image_id"])
        if names is not None and key not in names:
            raise ValueError(
                f"{path}: entry {index} is of image {key}, which is not among the images of "
                f"{path if isinstance(content, dict) else images}"
            )
        rows[key].append(entry)
    if names is None:
        return {key: _coco_boxes(own, path) for key, own in rows.items()}
    return {name: _coco_boxes(rows[key], path) for key, name in names.items()}


def _read_columns(path: Path) -> pa.Table:
    """A Parquet file, known by its first bytes, or a CSV file."""
    with path.open("rb") as file:
        is_parquet = file.read(4) == b"PAR1"
    try:
        if is_parquet:
            with parquet.ParquetFile(path) as file:
                names = file.schema_arrow.names
                return file.read(columns=[each for each in names if each != FEATURE])
        # names such as 000123 stay names
        options = csv.ConvertOptions(column_types={"image": pa.string()}, strings_can_be_null=False)
        return csv.read_csv(path, convert_options=options)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{path} cannot be read as a table of boxes ({error}); expected a COCO json, or "
            f"Parquet or CSV with the columns {', '.join(COLUMNS)}"
        ) from error


def _image_names(table: pa.Table, path: Path) -> pa.DictionaryArray:
    """The column ``image``, every name once and an index per row."""
    column = table["image"]
    if column.null_count:
        raise ValueError(f"{path} has {column.null_count} rows without an image name")
    try:
        return column.cast(pa.string()).combine_chunks().dictionary_encode()
    except pa.ArrowException as error:
        raise ValueError(
            f"{path}: column image must hold file names, but is of type {column.type}"
        ) from error


def _numbers(table: pa.Table, name: str, path: Path) -> np.ndarray:
    """A column as float64; empty cells become NaN."""
    column = table[name]
    try:
        return column.cast(pa.float64()).combine_chunks().to_numpy(zero_copy_only=False)
    except pa.ArrowException as error:
        raise ValueError(
            f"{path}: column {name} must hold numbers, but is of type {column.type}"
        ) from error


def _check_rows(corners: np.ndarray, objectness: np.ndarray | None, what: str) -> None:
    """Raise at the first row that is not a box; errors call the rows' file ``what``."""
    is_wrong = ~np.isfinite(corners).all(axis=1)
    if is_wrong.any():
        raise ValueError(f"{what}: the box of row {is_wrong.argmax()} is not four finite numbers")
    is_wrong = (corners[:, 2:] < corners[:, :2]).any(axis=1)
    if is_wrong.any():
        row = int(is_wrong.argmax())
        raise ValueError(
            f"{what}: the box of row {row} ends before it starts: its corners (x0, y0, x1, y1) are "
            f"{corners[row].tolist()}"
        )
    if objectness is None:
        return
    is_wrong = ~((objectness >= 0) & (objectness <= 1))
    if is_wrong.any():
        row = int(is_wrong.argmax())
        raise ValueError(
            f"{what}: {OBJECTNESS} {objectness[row]} of row {row} is not in [0, 1]; give "
            "probabilities, not logits"
        )


def _read_json(path: Path) -> dict[str, Any] | list[Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not a valid json file: {error}") from error
    if not isinstance(content, dict | list):
        raise ValueError(f"{path} is neither a COCO json nor a list of COCO results")
    return content


def _file_names(content: dict[str, Any] | list[Any], path: Path) -> dict[str, str]:
    """File name by image id."""
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        raise ValueError(f"{path} has no list of images; is it a COCO json?")
    try:
        return {str(image["id"]): str(image["file_name"]) for image in images}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} has an image without id or file_name") from error


def _coco_boxes(entries: list[dict[str, Any]], path: Path) -> ImageBoxes:
    """Boxes and scores of one image's entries; scores count only if all have one."""
    what = f"{path}, image {entries[0]['image_id']}" if entries else str(path)
    try:
        boxes = np.array([entry["bbox"] for entry in entries], dtype=float).reshape(-1, 4)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}: a bbox is not [x, y, width, height] in numbers") from error
    boxes[:, 2:] += boxes[:, :2]
    scores = [entry.get("score") for entry in entries]
    has_scores = bool(scores) and all(isinstance(score, int | float) for score in scores)
    objectness = np.array(scores, dtype=float) if has_scores else None
    _check_rows(boxes, objectness, what)
    return _image_boxes(boxes, objectness)


def _image_boxes(corners: np.ndarray, objectness: np.ndarray | None) -> ImageBoxes:
    return ImageBoxes(
        torch.from_numpy(corners.astype(np.float32)),
        None if objectness is None else torch.from_numpy(objectness.astype(np.float32)),
    )
