"""A listed data set, examined: what is odd about its boxes, images and numbers."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regionclip.data.datasets import SMALLEST_SIDE

from .findings import Finding, Findings
from .images import ImageFacts
from .listing import Listing

ROUNDING = 0.05
"""Pixels by which a box may lie outside its image without being counted: annotation tools round to
hundredths, corner and size each."""


@dataclass(frozen=True, slots=True)
class ClassCount:
    """How often a class occurs, crowds excepted."""

    name: str
    category_id: int
    num_boxes: int
    num_images: int


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was found out about a data set.

    Attributes:
        source: Where it is.
        format: Of its files.
        num_images: Listed.
        num_boxes: Listed, crowds included.
        num_captions: Listed.
        num_opened: Images that were opened; 0 if that was not asked for.
        classes: In the order of the labels.
        findings: In the order of their weight.
    """

    source: str
    format: str
    num_images: int
    num_boxes: int
    num_captions: int
    num_opened: int
    classes: tuple[ClassCount, ...]
    findings: tuple[Finding, ...]

    @property
    def is_harmless(self) -> bool:
        """Whether nothing is refused, left out or displaced."""
        return all(each.kind.is_harmless for each in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for json."""
        numbers = ("source", "format", "num_images", "num_boxes", "num_captions", "num_opened")
        return {name: getattr(self, name) for name in numbers} | {
            "classes": [
                {
                    "name": each.name,
                    "id": each.category_id,
                    "num_boxes": each.num_boxes,
                    "num_images": each.num_images,
                }
                for each in self.classes
            ],
            "findings": [
                {
                    "found": each.kind.title,
                    "number": each.number,
                    "effect": each.kind.effect,
                    "consequence": each.kind.consequence,
                    "examples": list(each.examples),
                }
                for each in self.findings
            ],
        }


def examine(listing: Listing, images: Sequence[ImageFacts] = ()) -> CheckReport:
    """Find out what is odd about a data set.

    Args:
        listing: What its files say.
        images: What opening its images showed, one each; none if they were not opened.
    """
    findings = listing.findings.copy()
    _examine_duplicates(listing, findings)
    for listed, facts in zip(listing.images, images, strict=False):
        _examine_image(listed.name, listed.size_hw, facts, findings)
    _examine_boxes(listing, images, findings)
    classes = _classes_of(listing)
    if listing.has_boxes:
        key, used = "image without boxes", set(listing.boxes.image_index)
    else:
        key = "image without captions"
        used = {index for index, number in listing.num_captions.items() if number}
    for index, image in enumerate(listing.images):
        if index not in used:
            findings.add(key, image.name)
    for each in classes:
        if each.num_boxes == 0:
            findings.add("category without boxes", each.name)
    return CheckReport(
        source=listing.source,
        format=listing.format,
        num_images=len(listing.images),
        num_boxes=len(listing.boxes),
        num_captions=sum(listing.num_captions.values()),
        num_opened=len(images),
        classes=classes,
        findings=findings.found(),
    )


def _examine_duplicates(listing: Listing, findings: Findings) -> None:
    columns: dict[str, Iterable[Hashable]] = {
        "image id": [each.image_id for each in listing.images],
        "image name": [each.name for each in listing.images],
        "category id": [category_id for category_id, _ in listing.categories],
        "category name": [name for _, name in listing.categories],
        "annotation id": listing.annotation_ids,
    }
    for key, values in columns.items():
        for value, number in Counter(values).items():
            if number > 1:
                findings.add(key, f"{value} ({number} times)")


def _examine_image(
    name: str, annotated_hw: tuple[int, int] | None, facts: ImageFacts, findings: Findings
) -> None:
    if facts.header is None:
        findings.add("missing image" if facts.is_missing else "broken image", facts.error)
        return
    height, width = facts.header.size_hw
    turn = facts.header.exif_turn
    if annotated_hw is not None and annotated_hw != (height, width):
        is_turned = turn == "swaps sides" and annotated_hw == (width, height)
        sizes = f"annotated as {annotated_hw[1]}x{annotated_hw[0]}, is {width}x{height}"
        findings.add("turned image" if is_turned else "other size", f"{name}: {sizes}")
    elif turn == "keeps size" or (turn == "swaps sides" and height == width):
        findings.add("perhaps turned image", name)


def _examine_boxes(listing: Listing, images: Sequence[ImageFacts], findings: Findings) -> None:
    rows = listing.boxes
    if not len(rows):
        return
    boxes = np.array(rows.boxes, dtype=np.float64)
    sizes = np.array([_frame(listing, images, index) for index in range(len(listing.images))])
    limits = sizes[rows.image_index][:, ::-1]  # width, height
    corner, end = boxes[:, :2], boxes[:, 2:]
    is_degenerate = (end - corner <= SMALLEST_SIDE).any(axis=1)
    is_out = (corner >= limits - SMALLEST_SIDE).any(axis=1) | (end <= SMALLEST_SIDE).any(axis=1)
    hangs_out = (corner < -ROUNDING).any(axis=1) | (end > limits + ROUNDING).any(axis=1)
    cases = {
        "degenerate box": is_degenerate,
        "box outside": is_out & ~is_degenerate,
        "box partly outside": hangs_out & ~is_out & ~is_degenerate,
        "crowd": np.array(rows.is_crowd),
        "difficult": np.array(rows.is_difficult),
    }
    for key, is_case in cases.items():
        for row in np.flatnonzero(is_case).tolist():
            name = listing.images[rows.image_index[row]].name
            corners = ", ".join(f"{each:g}" for each in rows.boxes[row])
            findings.add(key, f"{name}: {rows.places[row]}, xyxy {corners}")


def _frame(listing: Listing, images: Sequence[ImageFacts], index: int) -> tuple[float, float]:
    """Height and width that boxes must lie in: as annotated, else of the file, else unlimited."""
    header = images[index].header if images else None
    size_hw = listing.images[index].size_hw or (header and header.size_hw)
    if size_hw is not None:
        return float(size_hw[0]), float(size_hw[1])
    return (1.0, 1.0) if listing.format == "YOLO" else (np.inf, np.inf)


def _classes_of(listing: Listing) -> tuple[ClassCount, ...]:
    rows = listing.boxes
    pairs = [
        (label, image)
        for label, image, is_crowd in zip(rows.label, rows.image_index, rows.is_crowd, strict=True)
        if label >= 0 and not is_crowd
    ]
    num_boxes = Counter(label for label, _ in pairs)
    num_images = Counter(label for label, _ in set(pairs))
    return tuple(
        ClassCount(name, category_id, num_boxes[label], num_images[label])
        for label, (category_id, name) in enumerate(listing.categories)
    )
