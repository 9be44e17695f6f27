"""The annotations of a COCO json, gathered by image: few large tensors, and views of them."""

import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regionclip.data.datasets import LARGEST_COORDINATE, Objects

Entry = Mapping[str, Any]
PSEUDO = "is_pseudo"
"""What marks an annotation that a model made."""

_log = logging.getLogger(__name__)


def objects_by_image(
    rows: Sequence[Entry],
    image_ids: Sequence[Hashable],
    label_of: Mapping[int, int],
    *,
    path: Path,
) -> list[Objects]:
    """Turn annotations with a ``bbox`` into the objects of each image.

    Args:
        rows: Annotations in the file's order, which those of an image keep.
        image_ids: Images in the order of the result.
        label_of: Label by category id.
        path: How errors call the file.

    Returns:
        One per image. Their tensors are views: 118,000 images cost a second, not a minute.

    Raises:
        ValueError: An annotation has an unknown category, or a box that is not four finite numbers.
        KeyError, TypeError: One lacks a field, or it is of another type.
    """
    rows, counts = _in_order_of(rows, image_ids, path)
    if not rows:
        return [Objects.empty()] * len(image_ids)
    for each in rows:
        if each["category_id"] not in label_of:
            raise ValueError(
                f"{path}: annotation {each.get('id')} has category {each['category_id']}, "
                "which the file does not list; 'regionclip data check' lists all such annotations"
            )
    areas = _areas(rows, path)
    segmentations = [each.get("segmentation") or None for each in rows]
    columns = zip(
        counts,
        torch.from_numpy(_boxes(rows, path)).split(counts),
        torch.tensor([label_of[each["category_id"]] for each in rows]).split(counts),
        _flags(rows, "iscrowd").split(counts),
        _flags(rows, "ignore").split(counts),
        _flags(rows, PSEUDO).split(counts),
        torch.from_numpy(areas).split(counts),
        strict=True,
    )
    ids = _ids(rows)
    found = []
    nothing = Objects.empty()
    stop = 0
    for count, boxes, labels, is_crowd, is_difficult, is_pseudo, own_areas in columns:
        start, stop = stop, stop + count
        if count == 0:
            found.append(nothing)
            continue
        own = tuple(segmentations[start:stop])
        found.append(
            Objects(
                boxes=boxes,
                labels=labels,
                is_crowd=is_crowd,
                is_difficult=is_difficult,
                segmentations=own if any(own) else (),
                ids=ids[start:stop],
                areas=None if np.isnan(areas[start:stop]).any() else own_areas,
                is_pseudo=is_pseudo if is_pseudo.any() else None,
            )
        )
    return found


def warn_of_unlisted(path: Path, number: int) -> None:
    """Log that annotations are left out, if there are any."""
    if number:
        text = "%s: %d annotations belong to images that it does not list and are left out"
        _log.warning(text, path, number)


def _in_order_of(
    rows: Sequence[Entry], image_ids: Sequence[Hashable], path: Path
) -> tuple[list[Entry], list[int]]:
    """The annotations sorted by image, and how many each image has."""
    place_of = {image_id: place for place, image_id in enumerate(image_ids)}
    places = np.array([place_of.get(each["image_id"], -1) for each in rows], dtype=np.int64)
    num_without = int((places < 0).sum())
    warn_of_unlisted(path, num_without)
    order = np.argsort(places, kind="stable")[num_without:]
    counts = np.bincount(places[places >= 0], minlength=len(image_ids))
    return [rows[index] for index in order.tolist()], counts.tolist()


def _boxes(rows: Sequence[Entry], path: Path) -> np.ndarray:
    """``xyxy``, float32, from ``[x, y, width, height]``."""
    try:
        boxes = np.array([each["bbox"] for each in rows], dtype=np.float64)
    except (TypeError, ValueError):
        boxes = None
    if (
        boxes is None
        or boxes.shape != (len(rows), 4)
        or not (np.abs(boxes) <= LARGEST_COORDINATE).all()
    ):
        bad = next(each for each in rows if not is_box(each["bbox"]))
        raise ValueError(
            f"{path}: the bbox of annotation {bad.get('id')} is {str(bad['bbox'])[:80]}, expected "
            "four numbers; 'regionclip data check' lists all such annotations"
        )
    boxes[:, 2:] += boxes[:, :2]
    return boxes.astype(np.float32)


def _areas(rows: Sequence[Entry], path: Path) -> np.ndarray:
    """Square pixels, float32; not a number where an annotation does not say."""
    for each in rows:
        if not is_number(each.get("area", 0)):
            raise ValueError(
                f"{path}: the area of annotation {each.get('id')} is {str(each['area'])[:80]}, "
                "expected a number; 'regionclip data check' lists all such annotations"
            )
    return np.array([each.get("area", np.nan) for each in rows], dtype=np.float32)


def is_box(value: Any) -> bool:
    """Whether ``value`` is a list of four finite numbers."""
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))


def is_number(value: Any) -> bool:
    """Whether ``value`` is a finite number, and none that is damage."""
    return isinstance(value, int | float) and abs(value) <= LARGEST_COORDINATE


def _ids(rows: Sequence[Entry]) -> tuple[int, ...]:
    """The annotations' ids; none if one has no integer, for nothing depends on them."""
    ids = tuple(each["id"] for each in rows if isinstance(each.get("id"), int))
    return ids if len(ids) == len(rows) else ()


def _flags(rows: Sequence[Entry], key: str) -> Tensor:
    return torch.tensor([bool(each.get(key, 0)) for each in rows])
