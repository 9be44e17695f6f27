"""COCO's ``instances`` and ``captions`` json files, read and written."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regionclip.data.datasets import Category, Dataset, Objects, Sample


def read_coco(path: str | Path, *, image_root: str | Path | None = None) -> Dataset:
    """Read a COCO json with boxes, captions or both.

    Categories are ordered by id, as every COCO tool orders them. An optional ``split`` of a
    category (``base``, ``novel``) and ``frequency`` (LVIS) are kept.

    Args:
        path: The json.
        image_root: Folder of its ``file_name`` entries; by default the json's own.

    Raises:
        ValueError: The file is no COCO json, or an entry is unusable; the message names it.
    """
    path = Path(path)
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise ValueError(f"{path} is no COCO json: it has no list of images")
    try:
        return _dataset_of(content, path, path.parent if image_root is None else Path(image_root))
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(
            f"{path} is no valid COCO json ({type(error).__name__}: {error}); "
            "'regionclip data check' lists what is wrong with it"
        ) from error


def read_json(path: Path) -> Any:
    """Read a json file.

    Raises:
        ValueError: It is not there or no json.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as json: {error}") from error


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


def _dataset_of(content: Mapping[str, Any], path: Path, root: Path) -> Dataset:
    entries = sorted(content.get("categories", []), key=lambda each: each["id"])
    categories = tuple(
        Category(
            str(each["name"]), int(each["id"]), each.get("split", ""), each.get("frequency", "")
        )
        for each in entries
    )
    label_of = {each.id: label for label, each in enumerate(categories)}
    rows: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    captions: dict[Any, list[str]] = defaultdict(list)
    for each in content.get("annotations", []):
        if "caption" in each:
            captions[each["image_id"]].append(str(each["caption"]))
        if "bbox" in each:
            rows[each["image_id"]].append(each)
    samples = tuple(
        Sample(
            name=str(image["file_name"]),
            image=root / image["file_name"],
            image_id=image["id"],
            size_hw=(image["height"], image["width"]) if image.get("height") else None,
            objects=_objects_of(rows[image["id"]], label_of, path),
            captions=tuple(captions[image["id"]]),
            negative_labels=_labels(image.get("neg_category_ids", ()), label_of),
            not_exhaustive_labels=_labels(image.get("not_exhaustive_category_ids", ()), label_of),
        )
        for image in content["images"]
    )
    return Dataset(str(path), categories, samples)


def _objects_of(
    rows: Sequence[Mapping[str, Any]], label_of: Mapping[int, int], path: Path
) -> Objects:
    if not rows:
        return Objects.empty()
    unknown = [each for each in rows if each["category_id"] not in label_of]
    if unknown:
        raise ValueError(
            f"{path}: annotation {unknown[0].get('id')} has category {unknown[0]['category_id']}, "
            "which the file does not list; 'regionclip data check' lists all such annotations"
        )
    boxes = torch.tensor([each["bbox"] for each in rows], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    segmentations = tuple(each.get("segmentation") or None for each in rows)
    return Objects(
        boxes=boxes,
        labels=torch.tensor([label_of[each["category_id"]] for each in rows]),
        is_crowd=_flags(rows, "iscrowd"),
        is_difficult=_flags(rows, "ignore"),
        segmentations=segmentations if any(segmentations) else (),
        ids=tuple(int(each.get("id", 0)) for each in rows),
        areas=torch.tensor([float(each["area"]) for each in rows])
        if all("area" in each for each in rows)
        else None,
    )


def _flags(rows: Sequence[Mapping[str, Any]], key: str) -> Tensor:
    return torch.tensor([bool(each.get(key, 0)) for each in rows])


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
        if objects.segmentations and objects.segmentations[index] is not None:
            row["segmentation"] = objects.segmentations[index]
        rows.append(row)
    return rows
