"""What a data set's files say, sound or not."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path

from regionclip.data.datasets import Member

from .findings import Findings

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class ListedImage:
    """An image that a data set lists.

    Attributes:
        name: As it is listed.
        image_id: Its number or key.
        image: Where it should be.
        size_hw: As annotated; ``None`` if that is not said.
    """

    name: str
    image_id: Hashable
    image: Path | Member
    size_hw: tuple[int, int] | None = None


@dataclass(slots=True)
class ListedBoxes:
    """Boxes of images that are listed, as columns.

    Attributes:
        image_index: Into the images.
        label: Into the categories; -1 if its category is not listed.
        boxes: ``xyxy``, pixels; shares of the size for a YOLO image that cannot be opened.
        is_crowd: COCO's ``iscrowd``.
        is_difficult: VOC's ``difficult``.
        places: How a person finds it in the image's annotations.
    """

    image_index: list[int] = field(default_factory=list)
    label: list[int] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    is_crowd: list[bool] = field(default_factory=list)
    is_difficult: list[bool] = field(default_factory=list)
    places: list[str] = field(default_factory=list)

    def add(
        self,
        image_index: int,
        label: int,
        box: Box,
        *,
        place: str,
        is_crowd: bool = False,
        is_difficult: bool = False,
    ) -> None:
        """Add a row; the arguments are the attributes."""
        self.image_index.append(image_index)
        self.label.append(label)
        self.boxes.append(box)
        self.is_crowd.append(is_crowd)
        self.is_difficult.append(is_difficult)
        self.places.append(place)

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(slots=True)
class Listing:
    """A data set as it is listed, and what was noticed on the way.

    Attributes:
        source: Where it is.
        format: Of its files.
        has_boxes: Whether it is about boxes; otherwise it has captions only.
        categories: Id and name, in the order of the labels.
        images: In the order of the files.
        boxes: Those that are four numbers, of images that are listed.
        annotation_ids: Of all annotations that have one.
        num_captions: Captions of each image.
        findings: What could not be listed.
    """

    source: str
    format: str
    has_boxes: bool = True
    categories: list[tuple[int, str]] = field(default_factory=list)
    images: list[ListedImage] = field(default_factory=list)
    boxes: ListedBoxes = field(default_factory=ListedBoxes)
    annotation_ids: list[Hashable] = field(default_factory=list)
    num_captions: dict[int, int] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)
