"""Detections from files, so that they can be evaluated without a model."""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Literal

import pyarrow as pa
import torch
from pyarrow import parquet

from regionclip.concepts.class_names import plain_name
from regionclip.data.datasets import Dataset, Sample
from regionclip.structures import Detections

from .records import decoded_masks

OtherNames = Literal["refuse", "drop"]
"""What happens to detections of classes that the data set does not have."""
COLUMNS = ("image", "x0", "y0", "x1", "y1", "score", "name")


@dataclass(slots=True)
class ImageRows:
    """What a file says about one image, row by row."""

    boxes: list[list[float]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    segmentations: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DetectionFile:
    """A file's detections, by image of a data set.

    Attributes:
        source: The file.
        class_names: By label: the data set's names, where the file's could be mapped to them.
        rows: By the sample's name; images without detections may be missing.
        notes: What was left out of the file, or of the data.
    """

    source: str
    class_names: tuple[str, ...]
    rows: Mapping[str, ImageRows]
    notes: tuple[str, ...] = ()

    def of(self, sample: Sample, *, with_masks: bool = False) -> Detections:
        """The detections of an image, in the file's order; masks are decoded if asked for.

        Raises:
            ValueError: A mask is no run-length encoding.
        """
        rows = self.rows.get(sample.name, ImageRows())
        masks = None
        if with_masks:
            odd = [each for each in rows.segmentations if not isinstance(each, Mapping)]
            if odd:
                raise ValueError(
                    f"{self.source}: a detection of {sample.name} has no mask, or one that is no "
                    "run-length encoding; evaluate boxes"
                )
            masks = decoded_masks(rows.segmentations)
        # in float64, as the file has them: rounding would make equal what is nearly so
        return Detections(
            torch.tensor(rows.boxes, dtype=torch.float64).reshape(-1, 4),
            torch.tensor(rows.scores, dtype=torch.float64),
            torch.tensor(rows.labels, dtype=torch.int64),
            self.class_names,
            masks=masks,
        )


@dataclass(frozen=True, slots=True)
class _Row:
    image: str
    box: list[float]
    score: float
    name: str
    segmentation: Any


def read_detection_file(
    path: str | Path,
    dataset: Dataset,
    *,
    synonyms: Mapping[str, str] | None = None,
    other_names: OtherNames = "refuse",
) -> DetectionFile:
    """Read detections of a data set's images; the content tells the format.

    Args:
        path: COCO results (a json list of ``image_id, category_id, bbox, score``, perhaps
            ``segmentation``); or what ``regionclip detect`` wrote: ``detections.json``,
            ``detections.parquet`` (columns :data:`COLUMNS`).
        dataset: Tells images by their id or file name, and classes by their id or name.
        synonyms: Other names of the data set's classes.
        other_names: What to do with a class that the data set does not have.

    Raises:
        ValueError: The file cannot be read, or an image, class, box or score in it is not usable;
            the message says which.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if start == b"PAR1":
        names, rows = None, _parquet_rows(path, dataset)
    else:
        names, rows = _json_rows(path, dataset, other_names)
    return _assembled(path, dataset, names, rows, synonyms or {}, other_names)


def _assembled(
    path: Path,
    dataset: Dataset,
    names: Sequence[str] | None,
    rows: Iterator[_Row],
    synonyms: Mapping[str, str],
    other_names: OtherNames,
) -> DetectionFile:
    """Rows by image, with the data set's names."""
    own = {plain_name(other): name for name, other in synonyms.items()}
    own |= {plain_name(name): name for name in dataset.class_names}
    label_of: dict[str, int] = {}
    by_image: defaultdict[str, ImageRows] = defaultdict(ImageRows)
    num_dropped = 0
    for name in dataset.class_names if names is None else names:
        own_name = own.get(plain_name(name), name)
        if other_names == "refuse" or own_name in dataset.class_names:
            label_of.setdefault(own_name, len(label_of))
    for row in rows:
        name = own.get(plain_name(row.name), row.name)
        if name not in label_of and other_names == "drop":
            num_dropped += 1
            continue
        target = by_image[row.image]
        target.boxes.append(row.box)
        target.scores.append(row.score)
        # a name that the data set does not have is refused when it is judged
        target.labels.append(label_of.setdefault(name, len(label_of)))
        target.segmentations.append(row.segmentation)
    notes = []
    if num_dropped:
        notes.append(f"{num_dropped} detections of {path} are of other classes, and left out.")
    num_missing = sum(sample.name not in by_image for sample in dataset)
    if num_missing:
        notes.append(f"{path} has no detection in {num_missing} of {len(dataset)} images.")
    return DetectionFile(str(path), tuple(label_of), dict(by_image), tuple(notes))


def _json_rows(
    path: Path, dataset: Dataset, other_names: OtherNames
) -> tuple[Sequence[str] | None, Iterator[_Row]]:
    """The vocabulary, if the file says it, and its rows."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(
            f"{path} is neither json nor Parquet ({error}); expected COCO results, or "
            "detections.json or detections.parquet of 'regionclip detect'"
        ) from error
    if isinstance(content, list):
        images = {str(sample.image_id): sample.name for sample in dataset}
        names = {each.id: each.name for each in dataset.categories}
        return None, _coco_rows(path, content, images, names, other_names)
    try:
        listed = {str(each["id"]): str(each["file_name"]) for each in content["images"]}
        names = {each["id"]: str(each["name"]) for each in content["categories"]}
        entries = content["annotations"]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is neither COCO results (a list) nor a COCO json with detections"
        ) from error
    find = _image_finder(path, dataset)
    images = {number: find(name) for number, name in listed.items()}
    return tuple(names.values()), _coco_rows(path, entries, images, names, "refuse")


def _coco_rows(
    path: Path,
    entries: Sequence[Any],
    images: Mapping[str, str],
    names: Mapping[int, str],
    other_names: OtherNames,
) -> Iterator[_Row]:
    for index, entry in enumerate(entries):
        what = f"{path}: entry {index}"
        try:
            image, number, score = str(entry["image_id"]), entry["category_id"], entry["score"]
            x0, y0, width, height = map(float, entry["bbox"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{what} lacks image_id, category_id, score, or a bbox of four numbers"
            ) from error
        if image not in images:
            raise ValueError(f"{what} is of image {image}, which the data set does not have")
        if number not in names and other_names == "refuse":
            raise ValueError(
                f"{what} has category {number}, which the data set does not have; leave out such "
                "detections, or evaluate on the data that they were made for"
            )
        box = [x0, y0, x0 + width, y0 + height]
        segmentation = entry.get("segmentation")
        # the name of no class: it is dropped later, and counted
        name = names.get(number, "")
        yield _Row(images[image], *_checked(box, score, what), name, segmentation)


def _parquet_rows(path: Path, dataset: Dataset) -> Iterator[_Row]:
    try:
        table = parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is no Parquet file, or damaged: {error}") from error
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise ValueError(
            f"{path} has no column {', '.join(missing)}; expected {', '.join(COLUMNS)}"
        )
    find = _image_finder(path, dataset)
    images: dict[str, str] = {}
    for batch in table.select(list(COLUMNS)).to_batches():
        for index, row in enumerate(batch.to_pylist()):
            image = str(row["image"])
            if image not in images:
                images[image] = find(image)
            box = [row[corner] for corner in COLUMNS[1:5]]
            checked = _checked(box, row["score"], f"{path}: row {index}")
            yield _Row(images[image], *checked, str(row["name"]), None)


def _checked(box: list[Any], score: Any, what: str) -> tuple[list[float], float]:
    is_number = isinstance(score, int | float) and not isinstance(score, bool)
    if None in box or not is_number or not all(map(math.isfinite, [*box, score])):
        raise ValueError(f"{what} has a box or a score that is no finite number")
    if box[2] < box[0] or box[3] < box[1]:
        raise ValueError(f"{what} has a box that ends before it starts: {box}")
    return [float(each) for each in box], float(score)


def _image_finder(path: Path, dataset: Dataset) -> Callable[[str], str]:
    """From what a file calls an image to the data set's name: the same, its path, or its end."""
    names = {sample.name: sample.name for sample in dataset}
    names |= {str(sample.image): sample.name for sample in dataset}
    by_file_name: defaultdict[str, list[str]] = defaultdict(list)
    for sample in dataset:
        by_file_name[PurePath(sample.name).name].append(sample.name)

    def find(name: str) -> str:
        if name in names:
            return names[name]
        candidates = by_file_name.get(PurePath(name.replace("\\", "/")).name, [])
        if len(candidates) == 1:
            return candidates[0]
        found = f"{len(candidates)} images" if candidates else "no image"
        raise ValueError(
            f"{path} has detections of {name}, and {dataset.source} has {found} of that name; "
            "detect in the images of the data set itself"
        )

    return find
