"""COCO's ``instances``, ``captions`` and ``panoptic`` jsons and LVIS's, read; the first written."""

import gc
import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regionclip.data.datasets import LARGEST_COORDINATE, Category, Dataset, Kind, Sample
from regionclip.data.sources import coco_file_name, find_image_root

from .coco_objects import PSEUDO, objects_by_image, warn_of_unlisted
from .panoptic import segment_maps, segment_rows, with_stuff

Entry = Mapping[str, Any]
SPLITS = ("base", "novel")
FREQUENCIES = ("r", "c", "f")
KINDS: Mapping[Any, Kind] = {1: "thing", 0: "stuff"}
"""By a panoptic category's ``isthing``."""
CLASS_LISTS = ("neg_category_ids", "not_exhaustive_category_ids")
"""What LVIS says of an image about classes."""
ID = int | str
"""What may be the id of an image."""

_log = logging.getLogger(__name__)


def read_coco(path: str | Path, *, image_root: str | Path | None = None) -> Dataset:
    """Read a COCO or LVIS json with boxes, captions or both, or COCO's panoptic one.

    Captions are annotations, as COCO's, or a list in the image's own entry, as Detic's tools write
    them. The segments of a panoptic json are objects; their masks stay in the PNG files, in a
    folder of the json's name beside it.

    Categories are ordered by id, as every COCO tool orders them. An optional ``split`` of a
    category (``base``, ``novel``) and ``frequency`` (LVIS) are kept. Annotations of images that the
    file does not list are left out, and a warning logged.

    Args:
        path: The json.
        image_root: Folder of its ``file_name`` entries (of LVIS: of the end of ``coco_url``, such
            as ``train2017/000000000009.jpg``); by default the json's own folder or one near it, see
            :func:`~regionclip.data.sources.find_image_root`.

    Raises:
        ValueError: The file is no COCO json, or an entry is unusable; the message names it.
    """
    path = Path(path)
    content = read_content(path)
    try:
        with _without_collections():
            return _dataset_of(content, path, image_root)
    except (KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"{path} is no valid COCO json ({type(error).__name__}: {error}); "
            "'regionclip data check' lists what is wrong with it"
        ) from error


def read_content(path: Path) -> dict[str, Any]:
    """Read the dictionary in a COCO json; its entries may be anything.

    Raises:
        ValueError: It is no json, or its images, annotations or categories are no lists.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise ValueError(f"{path} is no COCO json: it has no list of images")
    for key in ("annotations", "categories"):
        if not isinstance(content.get(key, []), list):
            raise ValueError(f"{path} is no COCO json: its {key} are no list")
    return content


def read_json(path: Path) -> Any:
    """Read a json file.

    Where it is not in UTF-8, U+FFFD stands for what cannot be read, and a warning is logged:
    captions from the web are like that.

    Raises:
        ValueError: It is not there or no json.
    """
    try:
        with _without_collections():
            return json.loads(_decoded(path))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as json: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{path} cannot be read as json: it is nested too deeply") from error


def _decoded(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = content.decode("utf-8-sig", errors="replace")
        _log.warning(
            "%s is not all in UTF-8 (first at byte %d); U+FFFD stands in %d places for what cannot "
            "be read",
            path,
            error.start,
            text.count("\ufffd"),
        )
        return text


@contextmanager
def _without_collections() -> Iterator[None]:
    """Garbage is not looked for: among millions of new objects that takes half of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def coco_dictionary(dataset: Dataset) -> dict[str, Any]:
    """A data set as COCO's ``instances`` dictionary, with VOC's difficult objects as ``ignore``."""
    images = []
    annotations: list[dict[str, Any]] = []
    for sample in dataset:
        height, width = (0, 0) if sample.size_hw is None else sample.size_hw
        images.append(
            {"id": sample.image_id, "file_name": sample.name, "width": width, "height": height}
        )
        annotations += _annotations_of(sample, dataset.categories, len(annotations))
    categories = [
        {"id": each.id, "name": each.name}
        | ({"split": each.split} if each.split else {})
        | ({"frequency": each.frequency} if each.frequency else {})
        for each in dataset.categories
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def lvis_words(name: str) -> str:
    """What LVIS calls ``bow_(weapon)``, as a person writes it: ``bow weapon``.

    Source: microsoft/RegionCLIP@4b8513b ``get_cls_names``, which the embeddings of LVIS's classes
    were made with.
    """
    return name.replace("_", " ").replace("(", "").replace(")", "")


def category_of(entry: Entry) -> Category:
    """A category of a COCO or LVIS json; LVIS's are those with ``synonyms``.

    Raises:
        KeyError, TypeError, ValueError: It has no name or no id.
    """
    name, shown = str(entry["name"]), ""
    if entry.get("synonyms"):
        name, shown = lvis_words(name), str(entry["synonyms"][0])
    split, frequency = entry.get("split"), entry.get("frequency")
    return Category(
        name,
        int(entry["id"]),
        split if split in SPLITS else "",
        frequency if frequency in FREQUENCIES else "",
        "" if shown == name else shown,
        KINDS.get(entry.get("isthing"), ""),
    )


def size_of_entry(image: Entry) -> tuple[int, int] | None:
    """Height and width of an image's entry, if they are positive numbers."""
    sides = []
    for key in ("height", "width"):
        side = image.get(key)
        if not isinstance(side, int | float) or not 0 < side < LARGEST_COORDINATE:
            return None
        sides.append(int(side))
    return sides[0], sides[1]


def _dataset_of(content: Entry, path: Path, image_root: str | Path | None) -> Dataset:
    try:
        categories = sorted(map(category_of, content.get("categories", [])), key=_category_id)
    except ValueError as error:
        raise ValueError(f"{path}: a category's id is no integer: {error}") from error
    label_of = {each.id: label for label, each in enumerate(categories)}
    images = content["images"]
    names = [_checked_name(each, index, path) for index, each in enumerate(images)]
    root = find_image_root(path, names) if image_root is None else Path(image_root)
    captions: dict[Any, list[str]] = defaultdict(list)
    rows = []
    annotations = content.get("annotations", [])
    for each in annotations:
        if "caption" in each:
            captions[each["image_id"]].append(str(each["caption"]))
        if "bbox" in each:
            rows.append(each)
        if "segments_info" in each:
            rows += segment_rows(each)
        elif "bbox" not in each and "caption" not in each:
            raise ValueError(f"{path}: annotation {each.get('id')} has neither bbox nor caption")
    maps = segment_maps(annotations, path)
    objects = objects_by_image(rows, [each["id"] for each in images], label_of, path=path)
    objects = with_stuff(objects, [each.kind for each in categories])
    unlisted = captions.keys() - {each["id"] for each in images}
    warn_of_unlisted(path, sum(len(captions[each]) for each in unlisted))
    samples = tuple(
        Sample(
            name=name,
            image=root / name,
            image_id=image["id"],
            size_hw=size_of_entry(image),
            objects=own,
            captions=(*captions.get(image["id"], ()), *map(str, image.get("captions", ()))),
            negative_labels=_labels(image.get(CLASS_LISTS[0], ()), label_of),
            not_exhaustive_labels=_labels(image.get(CLASS_LISTS[1], ()), label_of),
            segment_map=maps.get(image["id"]),
        )
        for image, name, own in zip(images, names, objects, strict=True)
    )
    return Dataset(str(path), tuple(categories), samples)


def _category_id(category: Category) -> int:
    return category.id


def image_problem(image: Any) -> str | None:
    """Why an entry of an image cannot be used, if it cannot."""
    if not isinstance(image, Mapping):
        return "is no dictionary"
    if coco_file_name(image) is None:
        return "has neither file_name nor coco_url"
    if not isinstance(image.get("id"), ID):
        return "has no id that is a number or a text"
    for key in CLASS_LISTS:
        ids = image.get(key, [])
        if not isinstance(ids, list) or not all(isinstance(each, int) for each in ids):
            return f"has {key} that are no list of integers"
    return None


def _checked_name(image: Any, index: int, path: Path) -> str:
    problem = image_problem(image)
    if problem is not None:
        raise ValueError(
            f"{path}: image {index} {problem}; 'regionclip data check' lists all such images"
        )
    return str(coco_file_name(image))


def _labels(ids: Sequence[int], label_of: Mapping[int, int]) -> tuple[int, ...]:
    return tuple(label_of[each] for each in ids if each in label_of)


def _annotations_of(
    sample: Sample, categories: Sequence[Category], num_before: int
) -> list[dict[str, Any]]:
    objects = sample.objects
    rows = []
    for index, box in enumerate(objects.boxes.tolist()):
        x0, y0, x1, y1 = box
        row = {
            "id": num_before + index + 1,
            "image_id": sample.image_id,
            "category_id": categories[int(objects.labels[index])].id,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": (x1 - x0) * (y1 - y0) if objects.areas is None else float(objects.areas[index]),
            "iscrowd": int(objects.is_crowd[index]),
        }
        if objects.is_difficult[index]:
            row["ignore"] = 1
        if objects.is_pseudo is not None and objects.is_pseudo[index]:
            row[PSEUDO] = True
        if objects.segmentations and objects.segmentations[index] is not None:
            row["segmentation"] = objects.segmentations[index]
        rows.append(row)
    return rows
