"""A COCO or LVIS json, listed entry by entry: an unusable one hides no other."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from regionclip.data.readers.coco import ID, category_of, image_problem, read_content, size_of_entry
from regionclip.data.readers.coco_objects import is_box, is_number
from regionclip.data.sources import coco_file_name, find_image_root

from .listing import ListedImage, Listing

Entry = Mapping[str, Any]


def list_coco(path: Path, image_root: Path | None) -> Listing:
    """List a COCO or LVIS json.

    Raises:
        ValueError: It is no json, or its images, annotations or categories are no lists.
    """
    content = read_content(path)
    listing = Listing(str(path), "COCO json")
    label_of = _list_categories(content.get("categories", []), listing)
    index_of = _list_images(content["images"], path, image_root, listing)
    annotations = content.get("annotations", [])
    has_captions = any(isinstance(each, dict) and "caption" in each for each in annotations)
    listing.has_boxes = bool(label_of) or not has_captions
    for number, each in enumerate(annotations):
        _list_annotation(each, number, listing, label_of, index_of)
    return listing


def _list_categories(entries: Sequence[Any], listing: Listing) -> dict[int, int]:
    categories = []
    for number, entry in enumerate(entries):
        try:
            categories.append(category_of(entry))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError):
            listing.findings.add("unusable category", f"category {number}: {_short(entry)}")
    listing.categories = sorted((each.id, each.name) for each in categories)
    return {each[0]: label for label, each in enumerate(listing.categories)}


def _list_images(
    entries: Sequence[Any], path: Path, image_root: Path | None, listing: Listing
) -> dict[Hashable, int]:
    names = [coco_file_name(each) for each in entries]
    named = [each for each in names if each is not None]
    root = find_image_root(path, named) if image_root is None else image_root
    index_of: dict[Hashable, int] = {}
    for number, (entry, name) in enumerate(zip(entries, names, strict=True)):
        problem = image_problem(entry)
        if name is None or problem is not None:
            listing.findings.add("unusable image", f"image {number} {problem}: {_short(entry)}")
            continue
        index_of[entry["id"]] = len(listing.images)
        listing.images.append(ListedImage(name, entry["id"], root / name, size_of_entry(entry)))
    return index_of


def _list_annotation(
    entry: Any,
    number: int,
    listing: Listing,
    label_of: Mapping[int, int],
    index_of: Mapping[Hashable, int],
) -> None:
    if not isinstance(entry, dict) or not isinstance(entry.get("image_id", []), ID | float | None):
        listing.findings.add("unusable annotation", f"annotation {number}: {_short(entry)}")
        return
    place = f"annotation {_short(entry.get('id', f'number {number}'))}"
    if isinstance(entry.get("id"), ID):
        listing.annotation_ids.append(entry["id"])
    if "bbox" not in entry and "caption" not in entry:
        listing.findings.add("unusable annotation", f"{place} has neither bbox nor caption")
        return
    image_index = index_of.get(entry["image_id"])
    if image_index is None:
        listing.findings.add("unknown image", f"{place} of image {_short(entry['image_id'])}")
        return
    if "caption" in entry:
        listing.num_captions[image_index] = listing.num_captions.get(image_index, 0) + 1
        if "bbox" not in entry:
            return
    category_id = entry.get("category_id")
    label = label_of.get(category_id, -1) if isinstance(category_id, int) else -1
    if label < 0:
        listing.findings.add("unknown category", f"{place}: category {_short(category_id)}")
    if not is_box(entry["bbox"]):
        listing.findings.add("unusable annotation", f"{place}: bbox {_short(entry['bbox'])}")
        return
    if not is_number(entry.get("area", 0)):
        listing.findings.add("unusable annotation", f"{place}: area {_short(entry['area'])}")
    x, y, width, height = map(float, entry["bbox"])
    listing.boxes.add(
        image_index,
        label,
        (x, y, x + width, y + height),
        place=place,
        is_crowd=bool(entry.get("iscrowd")),
        is_difficult=bool(entry.get("ignore")),
    )


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, str) else value
    return text if len(text) <= 80 else f"{text[:77]}..."
