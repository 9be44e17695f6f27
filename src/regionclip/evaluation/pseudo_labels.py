"""Boxes that a model finds of classes nobody annotated, added to a data set to train on.

CORA+ trains on people's boxes of base classes and on such boxes of others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torchvision.ops import box_convert, box_iou

from regionclip.concepts.class_names import plain_name
from regionclip.data.datasets import Dataset
from regionclip.data.images import ImageReadError
from regionclip.data.readers.coco_objects import PSEUDO
from regionclip.detect import Detector
from regionclip.proposals.proposer import NovelClasses
from regionclip.structures import Detections

from .finding import detect_dataset, prompt_names


@dataclass(frozen=True, kw_only=True, slots=True)
class PseudoRules:
    """Which boxes of a model are trained on.

    Source:
        tgxs002/CORA@c334a6d ``export_pseudo_label.py``, ``--pseudo_box``.
    """

    min_score: float = 0.2
    """Lower scores are dropped; in [0, 1]."""
    max_iou: float = 0.5
    """Boxes that overlap an annotated one this much or more are dropped; in [0, 1]."""

    def __post_init__(self) -> None:
        for name in ("min_score", "max_iou"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")


def find_pseudo_boxes(
    detector: Detector,
    dataset: Dataset,
    novel_names: Sequence[str],
    *,
    rules: PseudoRules | None = None,
    batch_size: int = 1,
    num_workers: int = 4,
    unreadable: Callable[[int, ImageReadError], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[int | str, Detections]:
    """Find objects of novel classes where no object is annotated.

    The detector is asked for all classes, the data set's and the novel ones, and favours none: an
    object of a base class is then not taken for a novel one for want of its own name.

    Args:
        detector: Names boxes.
        dataset: Its images and boxes; its classes that are not among ``novel_names`` are base.
        novel_names: Each once.
        rules: Which boxes are kept; ``None`` takes the original's.
        batch_size: Images computed at a time.
        num_workers: Threads that read and resize.
        unreadable: Told the index of an image that cannot be read, and why.
        progress: Called after each image with 1.

    Returns:
        By ``image_id``; labels count in ``novel_names``. Images with nothing are left out.

    Source:
        CORA (arXiv:2303.13076), CORA+.
    """
    rules = PseudoRules() if rules is None else rules
    place = {plain_name(name): number for number, name in enumerate(novel_names)}
    base = [name for name in dataset.class_names if plain_name(name) not in place]
    vocabulary = detector.vocabulary([*prompt_names(base), *prompt_names(novel_names)])
    selection = replace(detector.defaults.selection, min_score=rules.min_score)
    options = replace(detector.defaults, selection=selection)
    if detector.parts.localizer is not None and detector.parts.proposer is None:
        options = replace(options, novel=NovelClasses(factor=1.0))
    found = detect_dataset(
        detector,
        dataset,
        vocabulary,
        options,
        batch_size=batch_size,
        num_workers=num_workers,
        unreadable=unreadable,
    )
    kept: dict[int | str, Detections] = {}
    for sample, own in zip(dataset, found, strict=True):
        overlaps = box_iou(own.boxes, sample.objects.boxes)
        is_new = ~(overlaps >= rules.max_iou).any(dim=1) & (own.labels >= len(base))
        new = own.select(is_new.nonzero()[:, 0])
        if len(new):
            labels = new.labels - len(base)
            kept[sample.image_id] = replace(new, labels=labels, class_names=tuple(novel_names))
        if progress is not None:
            progress(1)
    return kept


def with_pseudo_boxes(
    content: Mapping[str, Any],
    found: Mapping[int | str, Detections],
    novel_names: Sequence[str],
) -> dict[str, Any]:
    """A COCO json's content with more annotations; what is given stays as it is.

    Args:
        content: As the file has it.
        found: From :func:`find_pseudo_boxes`.
        novel_names: As it was given them.

    Returns:
        The same, with the novel classes marked so (``split``), behind the others unless the file
        lists them already, and the boxes found, each with its ``score`` and marked as a model's
        (``is_pseudo``).

    Raises:
        ValueError: An annotation of the file is of a novel class.
    """
    wanted = {plain_name(name) for name in novel_names}
    categories = [
        {**each, "split": "novel"} if plain_name(each["name"]) in wanted else each
        for each in content.get("categories", ())
    ]
    ids = {plain_name(each["name"]): each["id"] for each in categories}
    next_id = max(ids.values(), default=0) + 1
    for name in novel_names:
        if plain_name(name) not in ids:
            ids[plain_name(name)] = next_id
            categories.append({"id": next_id, "name": name, "split": "novel"})
            next_id += 1
    annotations = list(content.get("annotations", ()))
    novel_ids = {ids[name] for name in wanted}
    given = next((each for each in annotations if each["category_id"] in novel_ids), None)
    if given is not None:
        raise ValueError(
            f"annotation {given.get('id')} is of a novel class ({given['category_id']}) already; "
            "give the file of base classes that 'regionclip data split' writes"
        )
    last = max((each["id"] for each in annotations), default=0)
    for image_id, own in found.items():
        boxes_xywh = box_convert(own.boxes, "xyxy", "xywh").tolist()
        rows = zip(boxes_xywh, own.scores.tolist(), own.labels.tolist(), strict=True)
        for box, score, label in rows:
            last += 1
            annotations.append(
                {
                    "id": last,
                    "image_id": image_id,
                    "category_id": ids[plain_name(novel_names[int(label)])],
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    "score": score,
                    PSEUDO: True,
                }
            )
    return {**content, "categories": categories, "annotations": annotations}
