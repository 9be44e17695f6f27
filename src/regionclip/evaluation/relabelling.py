"""Annotated boxes called what a model calls them: labels that agree with what it will see.

A detector that learns boxes of the classes that a frozen model names, as CORA does, is confused by
objects that the model calls otherwise than people did.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regionclip.data.datasets import Dataset
from regionclip.data.images import ImageReadError
from regionclip.detect import Detector
from regionclip.structures import Detections
from regionclip.vocabulary import Vocabulary

from .finding import Pair, Search, detect_dataset, true_boxes_scored, true_rows

FORMER = "annotated_category_id"
"""What an annotation of the new file calls the category that it had."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many boxes of a class, or of all, a model calls as people did."""

    name: str
    num_boxes: int
    num_same: int

    @property
    def share(self) -> float:
        """In [0, 1]; NaN without boxes."""
        return self.num_same / self.num_boxes if self.num_boxes else float("nan")


def name_annotations(
    detector: Detector,
    dataset: Dataset,
    vocabulary: Vocabulary,
    *,
    batch_size: int = 1,
    num_workers: int = 4,
    unreadable: Callable[[int, ImageReadError], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[int, int]:
    """Name every annotated box by the class that it is most alike.

    Crowds and boxes without area are not named, nor are those of images that cannot be read.

    Args:
        detector: Its regions.
        dataset: With an id for every annotation, as readers of COCO jsons give.
        vocabulary: The data set's classes, in their order.
        batch_size: Images computed at a time.
        num_workers: Threads that read and resize.
        unreadable: Told the index of an image that cannot be read, and why.
        progress: Called after each image with 1.

    Returns:
        From the ids of annotations to labels.

    Raises:
        ValueError: An annotation has no integer as its id, or one that another has.

    Source:
        CORA (arXiv:2303.13076), sec. 3.4, "CLIP-aligned labeling"; tgxs002/CORA@38124c2 (branch
        ``region``, ``--eval --export``).
    """
    _check_ids(dataset)
    labels: dict[int, int] = {}
    found = detect_dataset(
        detector,
        dataset,
        vocabulary,
        find=_best_classes,
        batch_size=batch_size,
        num_workers=num_workers,
        unreadable=unreadable,
    )
    for sample, own in zip(dataset, found, strict=True):
        rows = true_rows(sample).nonzero()[:, 0].tolist()
        if len(own) == len(rows):  # an image that cannot be read has none
            ids = (sample.objects.ids[row] for row in rows)
            labels |= zip(ids, own.labels.tolist(), strict=True)
        if progress is not None:
            progress(1)
    return labels


def relabelled(content: Mapping[str, Any], category_ids: Mapping[int, int]) -> dict[str, Any]:
    """A COCO json's content with other categories of annotations; what is given stays as it is.

    Args:
        content: As the file has it.
        category_ids: By the ids of annotations; the others keep theirs.

    Returns:
        The same, and in each annotation that was named the category that people gave it, as
        :data:`FORMER`.
    """
    annotations = []
    for each in content.get("annotations", ()):
        named = category_ids.get(each.get("id"))
        if named is None:
            annotations.append(each)
        else:
            annotations.append(
                {**each, "category_id": named, FORMER: each.get(FORMER, each["category_id"])}
            )
    return {**content, "annotations": annotations}


def agreement(dataset: Dataset, labels: Mapping[int, int]) -> tuple[Agreement, ...]:
    """How far a model agrees with people: over all boxes that it named, then class by class.

    Args:
        dataset: As people annotated it.
        labels: From :func:`name_annotations`.
    """
    totals, same = [0] * len(dataset.categories), [0] * len(dataset.categories)
    for sample in dataset:
        for annotation, label in zip(
            sample.objects.ids, sample.objects.labels.tolist(), strict=True
        ):
            if annotation in labels:
                totals[label] += 1
                same[label] += labels[annotation] == label
    by_class = tuple(map(Agreement, dataset.class_names, totals, same))
    return (Agreement("all", sum(totals), sum(same)), *by_class)


def _check_ids(dataset: Dataset) -> None:
    seen: set[int] = set()
    for sample in dataset:
        own = sample.objects.ids
        if len(own) != len(sample.objects) or len(set(own)) != len(own) or not seen.isdisjoint(own):
            raise ValueError(
                f"{dataset.source}: an annotation of {sample.name} has no id, or one that another "
                "has; 'regionclip data check' lists such cases"
            )
        seen.update(own)


def _best_classes(search: Search, pairs: Sequence[Pair]) -> list[Detections]:
    """One class per annotated box, in their order."""
    best = [(boxes, scores.max(dim=1)) for boxes, scores in true_boxes_scored(search, pairs)]
    return [Detections(boxes, own.values, own.indices, search.names.names) for boxes, own in best]
