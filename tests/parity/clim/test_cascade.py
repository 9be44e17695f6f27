"""From an image to detections, step by step, against the numbers of Detic with a cascade.

Compared: the pyramid (``fpn*_stats``), proposals and their number (``rpn_top``, ``num_prop``),
boxes after two stages (``refined_rois``), the mean score of three stages (``cls_scores_*``) and
whole detections (``pred``). Losses of captions and tags are those of ``test_cascade_labels.py``.
"""

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from regionclip.detections.select import select_detections
from regionclip.methods.detic.cascade_detecting import (
    CascadeBatchView,
    CascadeScorer,
    class_scores,
)
from regionclip.methods.detic.cascade_model import move_boxes
from regionclip.structures import PreparedImage, Proposals
from regionclip.vocabulary import Vocabulary

from .cascade_golden import CASE, cascade, class_rows, image
from .training_numbers import check, golden, stats

pytestmark = pytest.mark.slow
SIDE = 256
TOLERANCE = 2e-5
"""Relative; kernels differ."""


@cache
@torch.no_grad()
def view() -> CascadeBatchView:
    own = PreparedImage(image(), (SIDE, SIDE), "image")
    return CascadeBatchView(cascade(), [own], dtype=torch.float32)


@cache
@torch.no_grad()
def proposals() -> Proposals:
    return view().propose()[0]


def rois() -> Tensor:
    return torch.from_numpy(golden(CASE)["rois"])[:, 1:]


def check_stats(name: str, ours: Tensor) -> None:
    expected, found = golden(CASE)[f"{name}_stats"], stats(ours)
    scale = float(np.abs(expected[2:4]).max())
    check(CASE, f"{name}_stats[:4]", found[:4], expected[:4], rtol=0.0, atol=TOLERANCE * scale)
    check(CASE, f"{name}_stats[4]", found[4], expected[4], rtol=TOLERANCE)


def test_levels_of_the_pyramid() -> None:
    for level, own in enumerate(view().pyramids[0]):
        check_stats(f"fpn{level}", own)


def test_proposals() -> None:
    """The original's score is the root of the heatmap's."""
    expected, own = golden(CASE)["rpn_top"], proposals()
    assert own.objectness is not None
    check(CASE, "num_prop", len(own), golden(CASE)["num_prop"], rtol=0.0)
    check(CASE, "rpn_top[:, :4]", own.boxes[: len(expected)], expected[:, :4], rtol=1e-5)
    scores = own.objectness.sigmoid().sqrt()[: len(expected)]
    check(CASE, "rpn_top[:, 4]", scores, expected[:, 4], rtol=1e-5)


@torch.no_grad()
def test_stages_move_and_name_regions() -> None:
    model, expected = cascade(), golden(CASE)
    boxes, embeddings = [rois()], []
    for stage in range(3):
        if stage == 2:
            check(CASE, "refined_rois", boxes[0], expected["refined_rois"][:, 1:], rtol=1e-5)
        answers = model.answer(stage, view().pyramids, boxes)
        embeddings.append(answers.embeddings)
        boxes = move_boxes(stage, boxes, answers.deltas, [(SIDE, SIDE)])
    scores = class_scores(embeddings, model.class_embeddings, scale=50.0)
    top = scores.topk(10, dim=1)
    check(CASE, "cls_scores_top", top.values, expected["cls_scores_top"], rtol=TOLERANCE)
    check(CASE, "cls_scores_top_idx", top.indices, expected["cls_scores_top_idx"], rtol=0.0)
    # the original counts the background's column too, of cosine 0
    whole = torch.cat([scores, torch.full((len(scores), 1), 0.5)], dim=1)
    check_stats("cls_scores", whole)


@torch.no_grad()
def test_detections_of_the_whole_way() -> None:
    model = cascade()
    vocabulary = Vocabulary(tuple(map(str, range(1203))), model.class_embeddings, (), "")
    scored = CascadeScorer(model).score(view().of(0), proposals(), vocabulary)
    assert scored.moved is not None
    found = select_detections(
        scored.moved,
        scored.scores,
        class_scores=scored.class_scores,
        size_hw=(SIDE, SIDE),
        options=model.config.selection,
    )
    expected = golden(CASE)["pred"]
    own = torch.cat([found.boxes, found.scores[:, None], found.labels[:, None]], dim=1)
    check(CASE, "pred[:, :4]", own[:100, :4], expected[:, :4], rtol=1e-5)
    check(CASE, "pred[:, 4]", own[:100, 4], expected[:, 4], rtol=1e-5)
    check(CASE, "pred[:, 5]", own[:100, 5], expected[:, 5], rtol=0.0)


def test_rows_of_the_file_are_those_of_the_classes() -> None:
    rows = torch.nn.functional.normalize(class_rows(), dim=1)
    torch.testing.assert_close(cascade().class_embeddings, rows)
    assert cascade().config.class_names == "lvis1203"
