"""All protocols by name: what each needs to be found, and how it judges that.

Another protocol is a function like those here and one entry below.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from regionclip.data.datasets import Dataset
from regionclip.detect import DetectOptions
from regionclip.structures import Detections

from .class_means import evaluate_boxes, evaluate_crops, evaluate_masks
from .coco import evaluate_coco, evaluate_ov_coco
from .diverse_weather import evaluate_diverse_weather
from .finding import (
    Find,
    classify_true_boxes,
    find_objects,
    find_proposals,
    name_true_boxes,
)
from .given_boxes import evaluate_given_boxes
from .lvis import MAX_DETECTIONS, evaluate_lvis, evaluate_lvis_masks
from .naming import only_split, with_splits
from .naming_regions import name_boxes, name_crops, name_masks
from .odinw import evaluate_odinw
from .proposals import evaluate_proposals
from .region_accuracy import evaluate_region_accuracy
from .report import EvaluationReport
from .voc import evaluate_voc07, evaluate_voc12


def as_it_is(dataset: Dataset) -> Dataset:
    """The data set itself."""
    return dataset


def only_base(dataset: Dataset) -> Dataset:
    """The base classes alone."""
    return only_split(dataset, "base")


def only_novel(dataset: Dataset) -> Dataset:
    """The novel classes alone."""
    return only_split(dataset, "novel")


def with_splits_if_told(dataset: Dataset) -> Dataset:
    """Base and novel classes, where the data set itself says which is which; else all classes."""
    return with_splits(dataset) if any(each.split for each in dataset.categories) else dataset


@dataclass(frozen=True, slots=True)
class Protocol:
    """A way to judge detections of one data set.

    Attributes:
        evaluate: Data set and detections, one per image in order, to a report.
        summary: What it measures, in a line.
        view: The classes that take part; before detection, since classes compete.
        find: What a detector does in each image.
        max_detections: Detections per image that the rules look at; ``None`` leaves the number to
            the model.
        with_masks: Whether masks are compared.
    """

    evaluate: Callable[[Dataset, Iterable[Detections]], EvaluationReport]
    summary: str
    view: Callable[[Dataset], Dataset] = as_it_is
    find: Find = find_objects
    max_detections: int | None = None
    with_masks: bool = False

    def options(self, defaults: DetectOptions) -> DetectOptions:
        """A model's options, with as many detections as the rules look at, and masks if they do."""
        options = replace(defaults, with_masks=True) if self.with_masks else defaults
        if self.max_detections is None:
            return options
        selection = replace(options.selection, max_detections=self.max_detections)
        return replace(options, selection=selection)


@dataclass(frozen=True, slots=True)
class CollectionProtocol:
    """A way to judge detections of several data sets.

    Attributes:
        evaluate: Data sets and detections, both by name, to a report.
        summary: What it measures, in a line.
    """

    evaluate: Callable[
        [Mapping[str, Dataset], Mapping[str, Iterable[Detections]]], EvaluationReport
    ]
    summary: str


PROTOCOLS: Mapping[str, Protocol] = {
    "coco": Protocol(evaluate_coco, "COCO's 12 figures for boxes"),
    "ov-coco": Protocol(
        evaluate_ov_coco, "AP50 of novel, base and all classes, which all compete", with_splits
    ),
    "ov-coco-novel": Protocol(evaluate_ov_coco, "the same, novel classes alone", only_novel),
    "ov-coco-base": Protocol(evaluate_ov_coco, "the same, base classes alone", only_base),
    "lvis": Protocol(
        evaluate_lvis, "LVIS's figures for boxes, federated", max_detections=MAX_DETECTIONS
    ),
    "lvis-masks": Protocol(
        evaluate_lvis_masks,
        "LVIS's figures for masks, federated",
        max_detections=MAX_DETECTIONS,
        with_masks=True,
    ),
    "region-accuracy": Protocol(
        evaluate_region_accuracy,
        "how true boxes are named: top-1, top-5, mean per class, and AP",
        with_splits_if_told,
        name_true_boxes,
    ),
    "given-boxes": Protocol(
        evaluate_given_boxes,
        "AP of naming true boxes, without NMS and background: CORA's of a region prompt",
        with_splits_if_told,
        classify_true_boxes,
    ),
    "region-macc": Protocol(
        evaluate_boxes,
        "mean class accuracy of naming true boxes, things and stuff, by the model's regions",
        find=name_boxes,
    ),
    "mask-macc": Protocol(
        evaluate_masks, "the same of true masks, by a map of the image", find=name_masks
    ),
    "crop-macc": Protocol(
        evaluate_crops, "the same of true boxes, each a picture of its own", find=name_crops
    ),
    "voc07": Protocol(evaluate_voc07, "Pascal VOC's AP50, 11 points"),
    "voc12": Protocol(evaluate_voc12, "Pascal VOC's AP50, all points"),
    "proposals": Protocol(
        evaluate_proposals, "recall of the best 100 and 1000 boxes, nameless", find=find_proposals
    ),
}
"""For one data set."""

COLLECTIONS: Mapping[str, CollectionProtocol] = {
    "diverse-weather": CollectionProtocol(
        evaluate_diverse_weather, "AP50 per class and weather, by VOC's and by COCO's rules"
    ),
    "odinw": CollectionProtocol(evaluate_odinw, "mean AP over a folder of COCO data sets"),
}
"""For several data sets."""
