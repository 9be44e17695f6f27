"""Our evaluator against CORA's on the same boxes: 12 figures of COCO, AP50 and AR50 by split."""

import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from regionclip.data.datasets import Dataset
from regionclip.data.readers.coco import read_coco
from regionclip.evaluation.coco import evaluate_coco, evaluate_ov_coco
from regionclip.structures import Detections
from tests.parity import comparing

CASE = "evaluator"
check = partial(comparing.check, "cora", CASE)
SPLITS = ("ap50_base", "ap50_novel", "ar50_base", "ar50_novel")
"""CORA's figures 13 to 16, in percent; the original names novel classes ``target``."""


NOVEL_IDS = {5, 6, 17, 18, 21, 22, 28, 32, 36, 41, 47, 49, 61, 63, 76, 81, 87}
"""The file calls its classes c1, c2, ...; these are COCO's ids of the 17 novel ones."""


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return comparing.golden("cora", CASE)


@pytest.fixture(scope="module")
def case(
    arrays: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Dataset, list[Detections]]:
    path: Path = tmp_path_factory.mktemp("evaluator") / "instances.json"
    content = json.loads(str(arrays["gt_json"]))
    for each in content["categories"]:
        each["split"] = "novel" if each["id"] in NOVEL_IDS else "base"
    path.write_text(json.dumps(content))
    dataset = read_coco(path)
    names = {each["id"]: each["name"] for each in content["categories"]}
    # a label is the rank of its category's id
    class_names = tuple(names[number] for number in sorted(names))
    detections = [
        Detections(
            boxes=torch.from_numpy(arrays[f"img{sample.image_id}_boxes"]),
            scores=torch.from_numpy(arrays[f"img{sample.image_id}_scores"]),
            labels=torch.from_numpy(arrays[f"img{sample.image_id}_labels"]),
            class_names=class_names,
        )
        for sample in dataset
    ]
    return dataset, detections


def test_the_figures_of_coco_are_the_originals(
    arrays: dict[str, np.ndarray], case: tuple[Dataset, list[Detections]]
) -> None:
    metrics = evaluate_coco(*case).metrics
    # the original writes -1 for what the data cannot say
    ours = [-1.0 if math.isnan(value) else value for value in metrics.values()]
    check("stats[:12]", ours, arrays["stats"][:12], rtol=0.0, atol=1e-6)


def test_the_figures_of_base_and_novel_classes_are_the_originals(
    arrays: dict[str, np.ndarray], case: tuple[Dataset, list[Detections]]
) -> None:
    report = evaluate_ov_coco(*case)
    ours = [report.metrics[name] for name in SPLITS]
    check("stats[12:]", ours, arrays["stats"][12:] / 100, rtol=0.0, atol=1e-6)
    assert [(each.name, each.num_classes) for each in report.splits] == [
        ("all", 65),
        ("base", 48),
        ("novel", 17),
    ]


def test_the_figure_of_all_classes_is_that_of_coco(
    arrays: dict[str, np.ndarray], case: tuple[Dataset, list[Detections]]
) -> None:
    ours = evaluate_ov_coco(*case).metrics["ap50_all"]
    check("stats[1]", ours, arrays["stats"][1], rtol=0.0, atol=1e-6)
