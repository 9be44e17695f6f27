"""Spec sections 5 (steps 3-10) and 5.1: from logits, objectness and offsets to detections."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from regionclip.detections.box_coder import decode_boxes
from regionclip.detections.nms import batched_nms
from regionclip.detections.select import Selection, SelectionOptions, select_detections
from regionclip.detections.soft_nms import SoftNmsDecay, soft_nms
from regionclip.scoring.objectness import fuse_objectness

from .golden import check, golden

CASE = "postprocess_units"
SIZE_HW = (320, 480)


def given(array: str) -> Tensor:
    return torch.from_numpy(golden(CASE)[array])


def ours(*, use_objectness: bool, use_deltas: bool = True, **options: Any) -> Selection:
    scores = given("logits").softmax(dim=1)[:, :-1]
    fused = fuse_objectness(scores, given("objectness"), "raw" if use_objectness else "none")
    boxes = given("boxes")
    if use_deltas:
        boxes = decode_boxes(given("deltas"), boxes, weights=(10.0, 10.0, 5.0, 5.0))
    return select_detections(
        boxes, fused, class_scores=scores, size_hw=SIZE_HW, options=SelectionOptions(**options)
    )


def region_rows(name: str, *, use_objectness: bool) -> np.ndarray:
    """The golden's rows counted as we count them.

    The original counts after it has dropped rows that are not finite (spec T6), so the same
    detection may have a smaller index there; ours is the row of the boxes that were given.
    """
    rows = given("objectness") >= 0 if use_objectness else torch.ones(len(given("boxes"))) > 0
    return rows.nonzero()[:, 0].numpy()[golden(CASE)[f"{name}_index"]]


def compare(name: str, selection: Selection, *, use_objectness: bool) -> None:
    """As sets, since equal scores may come in any order: rows sorted by region, then class."""
    index = region_rows(name, use_objectness=use_objectness)
    theirs = np.lexsort((golden(CASE)[f"{name}_classes"], index))
    own = np.lexsort((selection.labels.numpy(), selection.region_index.numpy()))
    check(CASE, f"{name}_index", selection.region_index.numpy()[own], index[theirs], rtol=0.0)
    for array, value, tolerances in (
        ("classes", selection.labels, {"rtol": 0.0}),
        ("scores", selection.scores, {"rtol": 0.0, "atol": 1e-4}),
        ("boxes", selection.boxes, {"rtol": 0.0, "atol": 0.02}),
    ):
        check(
            CASE,
            f"{name}_{array}",
            value.numpy()[own],
            golden(CASE)[f"{name}_{array}"][theirs],
            **tolerances,
        )


@pytest.mark.parametrize(
    ("name", "use_objectness", "options"),
    [
        ("plain", False, {}),
        ("mult", True, {}),
        ("vis", True, {"reported_score": "class"}),
        ("mult_soft", True, {"nms": "soft_gaussian"}),
        # The original ignores VIS with soft NMS; here the two together are refused, so plain soft.
        ("vis_soft", True, {"nms": "soft_gaussian"}),
        ("linear", False, {"nms": "soft_linear"}),
        ("nodelta", False, {"use_deltas": False}),
    ],
)
def test_detections_are_the_originals(
    name: str, use_objectness: bool, options: dict[str, Any]
) -> None:
    compare(name, ours(use_objectness=use_objectness, **options), use_objectness=use_objectness)


def test_reporting_class_scores_with_soft_nms_is_refused_where_the_original_ignores_it() -> None:
    np.testing.assert_array_equal(
        golden(CASE)["vis_soft_scores"], golden(CASE)["mult_soft_scores"], strict=True
    )
    with pytest.raises(ValueError, match="goes with nms='hard' only"):
        ours(use_objectness=True, nms="soft_gaussian", reported_score="class")


def test_regions_of_negative_objectness_have_no_detection() -> None:
    rows = ours(use_objectness=True, min_score=0.0, max_detections=10_000).region_index
    assert (given("objectness")[rows] > 0).all()
    assert (given("objectness") < 0).any()


@pytest.mark.parametrize("decay", ["gaussian", "linear", "hard"])
def test_soft_nms_is_the_originals(decay: SoftNmsDecay) -> None:
    kept, scores = soft_nms(
        given("boxes"), given("nms_scores"), given("nms_classes"), decay=decay, nms_iou=0.5
    )
    theirs = golden(CASE)[f"soft_{decay}_keep"]
    own_order, their_order = kept.numpy().argsort(), theirs.argsort()
    check(CASE, f"soft_{decay}_keep", kept.numpy()[own_order], theirs[their_order], rtol=0.0)
    their_scores = golden(CASE)[f"soft_{decay}_scores"][their_order]
    check(CASE, f"soft_{decay}_scores", scores.numpy()[own_order], their_scores)
    assert (scores.diff() <= 0).all()


@pytest.mark.parametrize(("nms_iou", "array"), [(0.5, "nms_keep_05"), (0.3, "nms_keep_03")])
def test_nms_keeps_what_the_original_keeps_in_its_order(nms_iou: float, array: str) -> None:
    kept = batched_nms(given("boxes"), given("nms_scores"), given("nms_classes"), nms_iou=nms_iou)
    check(CASE, array, kept.numpy(), golden(CASE)[array], rtol=0.0)
