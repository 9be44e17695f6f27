"""Measuring a model while it learns: what is measured stays the same, the weights change."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from regionclip.concepts.class_names import plain_name
from regionclip.data.datasets import Category, Dataset
from regionclip.detect import Detector
from regionclip.structures import Detections

from .coco import evaluate_coco, evaluate_ov_coco
from .finding import data_vocabulary, detect_dataset, find_proposals
from .lvis import evaluate_lvis
from .processes import Processes
from .proposals import evaluate_proposals


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
        """COCO's figures, or LVIS's; with AP50 of base and novel classes where there are both.

        The detector names the data set's classes, with the vectors that it carries for them. Every
        process gets the figures.
        """
        share, vocabulary = self._share(), data_vocabulary(detector, self.dataset)
        found = self._found(detect_dataset(detector, share, vocabulary, batch_size=self.batch_size))
        return self.processes.from_main(self._judged(found) if found is not None else {})

    def proposal_figures(self, detector: Detector) -> dict[str, float]:
        """Average recall of the best 100 and 1000 boxes, in every process."""
        found = self._found(
            detect_dataset(
                detector, self._share(), None, find=find_proposals, batch_size=self.batch_size
            )
        )
        own = {} if found is None else _defined(evaluate_proposals(self.dataset, found).metrics)
        return self.processes.from_main(own)

    def _judged(self, found: Sequence[Detections]) -> dict[str, float]:
        if any(each.frequency for each in self.dataset.categories):
            return _defined(evaluate_lvis(self.dataset, found).metrics)
        figures = dict(evaluate_coco(self.dataset, found).metrics)
        if any(each.split == "novel" for each in self.dataset.categories):
            figures |= evaluate_ov_coco(self.dataset, found).metrics
        return _defined(figures)

    def _share(self) -> Dataset:
        samples = self.processes.share(self.dataset.samples, self.batch_size)
        return replace(self.dataset, samples=tuple(samples))

    def _found(self, own: Iterable[Detections]) -> list[Detections] | None:
        """All processes' detections in the data set's order, in the main process."""
        pairs = zip(self._share(), own, strict=True)
        parts = self.processes.gather({sample.image_id: each for sample, each in pairs})
        if not self.processes.is_main:
            return None
        by_image = {image: found for part in parts for image, found in part.items()}
        return [by_image[sample.image_id] for sample in self.dataset]


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


def _defined(figures: Mapping[str, float]) -> dict[str, float]:
    """Without figures that the data cannot give."""
    return {name: value for name, value in figures.items() if not math.isnan(value)}
