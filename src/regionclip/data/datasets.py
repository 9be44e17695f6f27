"""What a data set is to the rest of the package, whatever files it came from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, overload

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Segmentation = Any
"""COCO's: a list of polygons ``[x0, y0, x1, y1, ...]`` in pixels, or a run-length encoding
``{"size": [height, width], "counts": ...}``; ``None`` where an object has none."""
Split = Literal["base", "novel", ""]
Frequency = Literal["r", "c", "f", ""]
Kind = Literal["thing", "stuff", ""]
LARGEST_COORDINATE = 1e30
"""Readers refuse more as damage, and so never overflow float32."""
SMALLEST_SIDE = 1e-5
"""Pixels; a box with a side no longer than that, inside its image, is none to train on.

Source: facebookresearch/detectron2 ``filter_empty_instances`` and ``Boxes.nonempty``, as used by
microsoft/RegionCLIP@4b8513b.
"""


@dataclass(frozen=True, slots=True)
class Category:
    """A class of a data set.

    Attributes:
        name: As the data set writes it; of LVIS, whose names are made for programs, the words.
        id: The data set's own number, which result files use.
        split: ``base`` or ``novel``, where the data set says so.
        frequency: LVIS's ``r``, ``c`` or ``f`` (rare, common, frequent).
        display_name: What LVIS's tools print: its first synonym. Empty if that is no other than
            ``name``; never what a prompt is made of.
        kind: ``thing`` (can be counted) or ``stuff`` (cannot), where the data set says so.
    """

    name: str
    id: int
    split: Split = ""
    frequency: Frequency = ""
    display_name: str = ""
    kind: Kind = ""


@dataclass(frozen=True, slots=True)
class Objects:
    """The annotated objects of one image, as the files have them: nothing clipped or left out.

    Attributes:
        boxes: ``xyxy``, absolute pixels of the original image, not clipped.
        labels: Index into the data set's ``categories``.
        is_crowd: COCO's ``iscrowd``: a group, not an object; neither trained on nor counted.
        is_difficult: Pascal VOC's ``difficult``: trained on, not counted by VOC's metric.
        segmentations: One per object, or empty if the data set has none.
        ids: The data set's own number of each annotation.
        areas: Square pixels, as COCO's ``area``: of the segmentation, if there is one; ``None``
            where nobody says, and the boxes' own count.
        is_stuff: COCO panoptic: a region that cannot be counted, such as sky; ``None`` where nobody
            says.
        is_pseudo: A model found the object, as 'regionclip data pseudo-label' marks it; ``None``
            where people annotated all.
    """

    boxes: Float[Tensor, "N 4"]
    labels: Int[Tensor, " N"]
    is_crowd: Bool[Tensor, " N"]
    is_difficult: Bool[Tensor, " N"]
    segmentations: tuple[Segmentation, ...] = ()
    ids: tuple[int, ...] = ()
    areas: Float[Tensor, " N"] | None = None
    is_stuff: Bool[Tensor, " N"] | None = None
    is_pseudo: Bool[Tensor, " N"] | None = None

    def __len__(self) -> int:
        return int(self.boxes.shape[0])

    @classmethod
    def empty(cls) -> "Objects":
        """No objects."""
        return cls.from_rows([], [])

    @classmethod
    def from_rows(
        cls,
        boxes: Sequence[Sequence[int | float]],
        labels: Sequence[int],
        *,
        is_difficult: Sequence[bool] | None = None,
        segmentations: Sequence[Segmentation] = (),
        areas: Sequence[int | float] | None = None,
    ) -> "Objects":
        """Objects, none of them a crowd, from one row each; the arguments are the attributes."""
        none = torch.zeros(len(labels), dtype=torch.bool)
        return cls(
            boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor(labels, dtype=torch.int64),
            is_crowd=none,
            is_difficult=none if is_difficult is None else torch.tensor(is_difficult).bool(),
            segmentations=tuple(segmentations),
            areas=None if areas is None else torch.tensor(areas, dtype=torch.float32),
        )


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside an uncompressed tar archive, such as a webdataset shard.

    Attributes:
        archive: The archive.
        name: The member's name.
        offset: Where its bytes begin in the archive.
        size: How many there are.
    """

    archive: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a data set and what is known about it; the pixels are read when asked for.

    Attributes:
        name: What errors and box tables call it, unique in its data set: the path, as a rule.
        image: Where its pixels are.
        image_id: The data set's own number or key, which result files use.
        size_hw: Height and width as the annotations say, before any EXIF turn; ``None`` if they do
            not.
        objects: What is annotated in it; none for images with captions only.
        captions: Sentences about the whole image.
        negative_labels: LVIS: classes that somebody looked for and did not find.
        not_exhaustive_labels: LVIS: classes of which not every object is annotated.
        segment_map: COCO panoptic: a PNG of the image's size whose pixels hold the ids of its
            objects (``objects.ids``); see :mod:`~regionclip.data.segment_maps`.
    """

    name: str
    image: Path | Member
    image_id: int | str
    size_hw: tuple[int, int] | None = None
    objects: Objects = field(default_factory=Objects.empty)
    captions: tuple[str, ...] = ()
    negative_labels: tuple[int, ...] = ()
    not_exhaustive_labels: tuple[int, ...] = ()
    segment_map: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Dataset(Sequence[Sample]):
    """Images with boxes, captions or both, and the classes they speak of.

    Images without any object belong to it: they hold false positives.

    Attributes:
        source: What errors and tables call it: the path it was read from.
        categories: In the order of the labels; each name once.
        samples: One per image.

    Raises:
        ValueError: Two categories, or two images, have one name or one id.
    """

    source: str
    categories: tuple[Category, ...]
    samples: tuple[Sample, ...]

    def __post_init__(self) -> None:
        _check_unique([each.name for each in self.categories], self.source, "category name")
        _check_unique([each.id for each in self.categories], self.source, "category id")
        _check_unique([each.name for each in self.samples], self.source, "image file")
        _check_unique([each.image_id for each in self.samples], self.source, "image id")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by label."""
        return tuple(each.name for each in self.categories)

    @property
    def num_boxes(self) -> int:
        """Annotated objects, crowds excepted."""
        return sum(int((~each.objects.is_crowd).sum()) for each in self.samples)

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Sample, ...]: ...
    def __getitem__(self, index: int | slice) -> Sample | tuple[Sample, ...]:
        return self.samples[index]


def _check_unique(values: list[Any], source: str, what: str) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise ValueError(
                f"{source}: {what} {value!r} occurs twice; 'regionclip data check' lists such cases"
            )
        seen.add(value)
