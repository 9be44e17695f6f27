"""Measuring a model while it learns: what is measured stays the same, the weights change."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from regionclip.concepts.class_names import plain_name
from regionclip.data.datasets import Category, Dataset
from regionclip.detect import Detector
from regionclip.structures import Detections

from .class_means import evaluate_boxes
from .finding import (
    Find,
    classify_true_boxes,
    data_vocabulary,
    detect_dataset,
    find_proposals,
    nothing_found,
)
from .given_boxes import best_pairs
from .lvis import evaluate_lvis_masks, is_federated
from .naming_regions import name_boxes
from .processes import Processes
from .proposals import evaluate_proposals
from .protocols import PROTOCOLS, Protocol
from .records import from_record, to_record
from .report import EvaluationReport, mean_of

Found = TypeVar("Found")
"""What was found in an image."""
Judge = Callable[[Dataset, Sequence[Detections]], dict[str, float]]
"""From a data set and one ``Detections`` per image to the figures that the data can give."""


@dataclass(frozen=True, slots=True, eq=False)
class Watch:
    """A data set to measure on again and again, perhaps shared among processes.

    Attributes:
        dataset: From :func:`watched`.
        processes: Who shares the images.
        batch_size: Images computed at a time.
    """

    dataset: Dataset
    processes: Processes
    batch_size: int = 1

    def detection_figures(self, detector: Detector) -> dict[str, float]:
        """Those of :func:`judge_objects`, in every process.

        The detector names the data set's classes, with the vectors that it carries for them, and
        keeps as many detections as the rules look at.
        """
        found = detect_dataset(
            detector,
            self._share(),
            data_vocabulary(detector, self.dataset),
            object_rules(self.dataset).options(detector.defaults),
            batch_size=self.batch_size,
        )
        return self._judged(found, judge_objects)

    def mask_figures(self, detector: Detector) -> dict[str, float]:
        """Those of :func:`judge_objects_and_masks`, in every process.

        As :meth:`detection_figures`, where the data set has masks to compare; else the same.
        """
        if not has_masks(self.dataset):
            return self.detection_figures(detector)
        found = detect_dataset(
            detector,
            self._share(),
            data_vocabulary(detector, self.dataset),
            PROTOCOLS["lvis-masks"].options(detector.defaults),
            batch_size=self.batch_size,
        )
        # as run lengths: the masks of a data set fit no memory
        records = self._found(map(to_record, found))
        if records is None:
            return self.processes.from_main({})
        names = self.dataset.class_names
        without = [{key: own[key] for key in own if key != "masks"} for own in records]
        figures = judge_objects(self.dataset, [from_record(each, names) for each in without])
        masks = (from_record(each, names) for each in records)
        return self.processes.from_main(figures | judge_masks(self.dataset, masks))

    def given_box_figures(self, detector: Detector) -> dict[str, float]:
        """Those of :func:`judge_given_boxes`, in every process; the true boxes are only named."""
        return self._named_figures(detector, classify_true_boxes, judge_given_boxes)

    def region_figures(self, detector: Detector) -> dict[str, float]:
        """Those of :func:`judge_regions`, in every process; the true boxes are only named."""
        return self._named_figures(detector, name_boxes, judge_regions)

    def _named_figures(self, detector: Detector, find: Find, judge: Judge) -> dict[str, float]:
        found = detect_dataset(
            detector,
            self._share(),
            data_vocabulary(detector, self.dataset),
            find=find,
            batch_size=self.batch_size,
        )
        return self._judged(found, judge)

    def proposal_figures(self, detector: Detector) -> dict[str, float]:
        """Those of :func:`judge_proposals`, in every process."""
        found = detect_dataset(
            detector, self._share(), None, find=find_proposals, batch_size=self.batch_size
        )
        return self._judged(found, judge_proposals)

    def check_metric(self, metric: str, judge: Judge) -> None:
        """Refuse a figure that the data cannot give, before anything is trained.

        Raises:
            ValueError: ``judge`` gives no ``metric``, whatever is found in the images.
        """
        nothing = [nothing_found(self.dataset.class_names)] * len(self.dataset)
        names = self.processes.from_main(
            tuple(judge(self.dataset, nothing)) if self.processes.is_main else ()
        )
        if metric not in names:
            raise ValueError(
                f"measuring.metric: {self.dataset.source} gives no figure {metric!r}; expected one "
                f"of {', '.join(names)}"
            )

    def _judged(self, own: Iterable[Detections], judge: Judge) -> dict[str, float]:
        found = self._found(own)
        return self.processes.from_main({} if found is None else judge(self.dataset, found))

    def _share(self) -> Dataset:
        samples = self.processes.share(self.dataset.samples, self.batch_size)
        return replace(self.dataset, samples=tuple(samples))

    def _found(self, own: Iterable[Found]) -> list[Found] | None:
        """All processes' detections in the data set's order, in the main process."""
        pairs = zip(self._share(), own, strict=True)
        parts = self.processes.gather({sample.image_id: each for sample, each in pairs})
        if not self.processes.is_main:
            return None
        by_image = {image: found for part in parts for image, found in part.items()}
        return [by_image[sample.image_id] for sample in self.dataset]


def object_rules(dataset: Dataset) -> Protocol:
    """LVIS's rules for a federated data set, which would make COCO's wrong; else COCO's."""
    return PROTOCOLS["lvis" if is_federated(dataset) else "coco"]


def judge_objects(dataset: Dataset, found: Sequence[Detections]) -> dict[str, float]:
    """Figures by :func:`object_rules`, and AP50 of base and novel classes where there are both."""
    report = object_rules(dataset).evaluate(dataset, found)
    figures = dict(report.metrics)
    if any(each.split == "novel" for each in dataset.categories):
        figures |= _by_split(report)
    return _defined(figures)


def has_masks(dataset: Dataset) -> bool:
    """Whether masks can be compared: by LVIS's rules, where every object has one."""
    return is_federated(dataset) and all(
        len(each.objects) == len(each.objects.segmentations)
        and None not in each.objects.segmentations
        for each in dataset
    )


def judge_masks(dataset: Dataset, found: Iterable[Detections]) -> dict[str, float]:
    """LVIS's figures of masks, such as ``mask_ap_rare``."""
    metrics = evaluate_lvis_masks(dataset, found).metrics
    return _defined({f"mask_{name}": value for name, value in metrics.items()})


def judge_objects_and_masks(dataset: Dataset, found: Sequence[Detections]) -> dict[str, float]:
    """Those of :func:`judge_objects`, and of masks where :func:`has_masks` is true."""
    figures = judge_objects(dataset, found)
    return figures | judge_masks(dataset, found) if has_masks(dataset) else figures


def judge_given_boxes(dataset: Dataset, found: Sequence[Detections]) -> dict[str, float]:
    """Those of :func:`judge_objects`, of the best pairs of true boxes and classes."""
    return judge_objects(dataset, [best_pairs(dataset, each) for each in found])


def judge_regions(dataset: Dataset, found: Sequence[Detections]) -> dict[str, float]:
    """Mean class accuracy of named boxes, of things and stuff apart where the data tells them."""
    return _defined(evaluate_boxes(dataset, found).metrics)


def judge_proposals(dataset: Dataset, found: Sequence[Detections]) -> dict[str, float]:
    """Average recall of the best 100 and 1000 boxes."""
    return _defined(evaluate_proposals(dataset, found).metrics)


def watched(
    dataset: Dataset, trained_names: Sequence[str], *, max_images: int | None = None
) -> Dataset:
    """A data set whose classes say whether they are trained on.

    Args:
        dataset: What to measure on.
        trained_names: Classes with boxes in training; the others are novel.
        max_images: Keep the first so many; ``None`` keeps all.

    Raises:
        ValueError: It has no image, or none of its classes is trained on.
    """
    if len(dataset) == 0:
        raise ValueError(f"{dataset.source} has no image to measure on; leave out data.val")
    known = {plain_name(name) for name in trained_names}
    if known.isdisjoint(map(plain_name, dataset.class_names)):
        raise ValueError(
            f"none of the classes of {dataset.source} ({', '.join(dataset.class_names[:5])}) is "
            f"trained on ({', '.join(trained_names[:5])}); names must be written alike"
        )
    categories = tuple(_told(each, known) for each in dataset.categories)
    return replace(dataset, categories=categories, samples=dataset.samples[:max_images])


def _told(category: Category, known: set[str]) -> Category:
    return replace(category, split="base" if plain_name(category.name) in known else "novel")


def _by_split(report: EvaluationReport) -> dict[str, float]:
    """Those of ``ov-coco``, from the classes' own figures."""
    return {
        f"ap50_{split}": mean_of(
            [row.metrics["ap50"] for row in report.classes if split in ("all", row.split)]
        )
        for split in ("novel", "base", "all")
    }


def _defined(figures: Mapping[str, float]) -> dict[str, float]:
    """Without figures that the data cannot give."""
    return {name: value for name, value in figures.items() if not math.isnan(value)}
