"""Average precision of naming given boxes: CORA's way of measuring a region prompt."""

from collections.abc import Iterable
from dataclasses import replace

from regionclip.data.datasets import Dataset
from regionclip.structures import Detections

from .coco import evaluate_coco, evaluate_ov_coco
from .lvis import evaluate_lvis, is_federated
from .region_accuracy import COCO_RULES, LVIS_RULES
from .report import EvaluationReport


def evaluate_given_boxes(dataset: Dataset, detections: Iterable[Detections]) -> EvaluationReport:
    """AP where every true box is given and only its name is asked for.

    Args:
        dataset: What is there. A federated one, as LVIS is, is judged by LVIS's rules; else by
            COCO's, with base and novel classes apart if it has both.
        detections: One per image, in the data set's order, as
            :func:`~.finding.classify_true_boxes` gives them. Read once.

    Raises:
        ValueError: The counts or the classes differ.

    Source:
        CORA (arXiv:2303.13076), sec. 4 (region prompting); tgxs002/CORA@38124c2 (branch
        ``region``, ``--eval_box_from GT``).
    """
    has_splits = {each.split for each in dataset.categories} >= {"base", "novel"}
    rules = evaluate_ov_coco if has_splits else evaluate_coco
    evaluate = evaluate_lvis if is_federated(dataset) else rules
    report = evaluate(dataset, (best_pairs(dataset, each) for each in detections))
    sentence = (
        "Given boxes: the boxes are the true ones (no crowds, none without area), scores are the "
        "softmax over the classes, without a background, and the best "
        f"{num_pairs(dataset)} pairs of box and class of an image are kept, without NMS; then "
        f"{report.sentence}"
    )
    return replace(report, protocol="given-boxes", sentence=sentence)


def best_pairs(dataset: Dataset, found: Detections) -> Detections:
    """The best pairs of an image that the rules look at."""
    return found.select(found.scores.argsort(descending=True, stable=True)[: num_pairs(dataset)])


def num_pairs(dataset: Dataset) -> int:
    """Pairs of box and class per image: 300 on LVIS, else 100."""
    rules = LVIS_RULES if is_federated(dataset) else COCO_RULES
    return rules.max_detections
