"""From an image to detections, step by step, against CORA's own numbers (RN50, seeded weights)."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert

from regionclip.detections.select import select_detections
from regionclip.methods.cora.decoder import PREDICT_EPS, inverse_sigmoid
from regionclip.methods.cora.model import Localization
from regionclip.methods.cora.pre_matching import (
    anchor_probabilities,
    match_anchors,
    novel_factors,
)
from regionclip.scoring.objectness import fuse_objectness
from regionclip.scoring.regions import score_classes
from tests.parity.comparing import parity_folder

from .golden import check, check_sampled, detector, golden, image_a, maps_of_a, sampled, stats
from .learning import outputs_of

CASE = "rn50_detect"
pytestmark = pytest.mark.slow


def classes() -> Tensor:
    return torch.from_numpy(golden(CASE)["class_embeddings"])


def factors() -> Tensor:
    """Of COCO's 17 novel classes, by their places among 65."""
    path = parity_folder() / "cora" / "manifests" / "novel_label_indices.json"
    novel = json.loads(path.read_text())["coco65"]
    return novel_factors([f"class{n}" for n in range(65)], factor=8.0, novel=novel)


@cache
@torch.inference_mode()
def anchor_features() -> Tensor:
    return detector("RN50").anchor_features(maps_of_a("RN50"))


@cache
@torch.inference_mode()
def localized() -> tuple[Localization, list[Tensor], list[Tensor]]:
    """The localiser's answer, and what its encoder's and decoder's layers gave."""
    model = detector("RN50")
    with (
        outputs_of(model.map_encoder.layers) as encoded,
        outputs_of(model.decoder.layers) as decoded,
    ):
        found = model([image_a()], classes(), class_factors=factors())
    return found, encoded, decoded


def in_their_order(queries: Tensor) -> Tensor:
    """Rows ``(..., Q, ...)`` on the axis before the last, in the order that upstream had them.

    Inside a class upstream's order of queries is arbitrary; ``order`` tells which it was.
    """
    ours = localized()[0].anchor_index[0]
    theirs = torch.from_numpy(golden(CASE)["order"][0]).long()
    return queries.index_select(-2, ours.argsort()[theirs])


@torch.inference_mode()
def test_classes_of_anchors() -> None:
    expected, features = golden(CASE), anchor_features()
    unit = F.normalize(features, dim=2)
    check(CASE, "anchor_feat_sub", unit[:, :, ::32], expected["anchor_feat_sub"])
    cosines = unit[0] @ F.normalize(classes(), dim=1).T
    check(CASE, "prematch_cos", cosines, expected["prematch_cos"])
    weighted = anchor_probabilities(features, classes(), class_factors=factors())[0]
    check(CASE, "prematch_prob_sub", weighted[::10], expected["prematch_prob_sub"])
    best, second = weighted.topk(2, dim=1).values.log().unbind(1)
    check(CASE, "prematch_margin", best - second, expected["prematch_margin"], atol=1e-3)
    found = match_anchors(features, classes(), class_factors=factors())
    check(
        CASE,
        "prematch_class_anchor_order",
        found[0],
        expected["prematch_class_anchor_order"],
        rtol=0,
    )


def test_queries_are_in_the_order_of_classes() -> None:
    expected, (found, _, _) = golden(CASE), localized()
    check(CASE, "proposal_classes", found.classes, expected["proposal_classes"], rtol=0.0)
    # the same anchors look for each class; their order within it is arbitrary upstream
    for index in range(65):
        own = found.anchor_index[0][found.classes[0] == index]
        theirs = expected["order"][0][expected["proposal_classes"][0] == index]
        assert own.tolist() == sorted(theirs)
    check(CASE, "order", found.anchor_index.sort().values, np.sort(expected["order"]), rtol=0.0)


@torch.inference_mode()
def test_projections_and_encoder() -> None:
    model, (_, encoded, _) = detector("RN50"), localized()
    check_sampled(CASE, "input_proj", model.input_proj(maps_of_a("RN50").layer3))
    check(CASE, "text_proj", model.text_proj(classes()), golden(CASE)["text_proj"])
    for number, output in enumerate(encoded):
        check_sampled(CASE, f"enc{number}", output.transpose(0, 1))
    check_sampled(CASE, "memory", encoded[-1].transpose(0, 1))


def test_decoder_layer_by_layer() -> None:
    expected, (found, _, decoded) = golden(CASE), localized()
    for number, output in enumerate(decoded):
        check_sampled(CASE, f"declayer{number}", in_their_order(output).transpose(0, 1))
    hidden = in_their_order(found.decoded.hidden)
    samples = np.stack([sampled(each, 8192) for each in hidden])
    check(CASE, "hs_sub", samples, expected["hs_sub"])
    check(CASE, "hs_stats", np.stack([stats(each) for each in hidden]), expected["hs_stats"])
    references = in_their_order(found.decoded.references)
    check(CASE, "references", references, expected["references"], rtol=0.0, atol=1e-5)
    boxes = in_their_order(found.boxes)
    check(CASE, "boxes_per_layer", boxes, expected["boxes_per_layer"], rtol=0.0, atol=1e-5)
    objectness = in_their_order(found.objectness[..., None])[..., 0]
    check(CASE, "objectness_per_layer", objectness, expected["objectness_per_layer"])


@cache
@torch.inference_mode()
def final_features() -> Tensor:
    """Vectors of all final boxes in upstream's order; half a minute on one core."""
    boxes = in_their_order(localized()[0].boxes[-1])
    return detector("RN50").region_features(maps_of_a("RN50"), boxes)[0]


@torch.inference_mode()
def test_final_classification() -> None:
    expected, features = golden(CASE), final_features()
    unit = F.normalize(features, dim=1)
    check(CASE, "final_feat_sub", unit[:, ::32], expected["final_feat_sub"])
    check(CASE, "final_cos", unit @ F.normalize(classes(), dim=1).T, expected["final_cos"])
    scores, boxes = final_scores()
    logits = inverse_sigmoid(scores, PREDICT_EPS)
    check(CASE, "pred_logits", logits, expected["pred_logits"], rtol=0.0, atol=1e-3)
    check(CASE, "pred_boxes", boxes, expected["pred_boxes"], rtol=0.0, atol=1e-5)


def final_scores() -> tuple[Tensor, Tensor]:
    """Scores ``(Q, C)`` and normalised ``cxcywh`` of all queries in upstream's order."""
    found = localized()[0]
    objectness = in_their_order(found.objectness[-1][..., None])[0, :, 0]
    scores = fuse_objectness(score_classes(final_features(), classes()), objectness, "product")
    return scores, in_their_order(found.boxes[-1])[0]


@torch.inference_mode()
def test_final_detections() -> None:
    expected, (scores, boxes) = golden(CASE), final_scores()
    height, width = expected["target_size"].tolist()
    scale = torch.tensor([width, height, width, height])
    found = select_detections(
        box_convert(boxes, "cxcywh", "xyxy") * scale,
        scores,
        class_scores=scores,
        size_hw=(height, width),
        options=detector("RN50").config.selection,
    )
    check(CASE, "det_labels", found.labels, expected["det_labels"], rtol=0.0)
    check(CASE, "det_scores", found.scores, expected["det_scores"], rtol=0.0, atol=1e-5)
    check(CASE, "det_boxes", found.boxes, expected["det_boxes"], rtol=0.0, atol=1e-2)
