"""From an image to detections, step by step, against F-ViT's and F-VLM's numbers (B/16)."""

from functools import cache

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou

from regionclip.concepts.class_names import builtin_names
from regionclip.detections.box_coder import REGION_BOX_WEIGHTS, bounded, clip_boxes, decode_boxes
from regionclip.detections.select import Selection, select_detections
from regionclip.losses import focal_scaled_cross_entropy
from regionclip.methods.fvit.detecting import FvitBatchView, FvitScorer
from regionclip.methods.fvit.heads import ROI_GRID, RegionAnswers
from regionclip.methods.fvit.learner import FvitLearner
from regionclip.methods.fvit.scores import are_base, detector_logits, fused_scores
from regionclip.methods.fvit.training_config import FvitTraining
from regionclip.proposals.rpn import RpnLevel
from regionclip.scoring.regions import ScoredRegions
from regionclip.structures import Proposals
from regionclip.vocabulary import Vocabulary

from .fvit_golden import FVIT, FVLM, Case, check_stats, detector, image
from .training_numbers import check, golden

pytestmark = pytest.mark.slow
CASES = (FVIT, FVLM)
FVLM_BACKGROUND = 1.0
"""Weight of the background in F-VLM's loss; ``recipes/fvlm-ov-coco-vitb16.toml`` says the same."""
TOLERANCE = 2e-5
"""Relative; attention kernels differ."""


@cache
@torch.no_grad()
def view(case: Case) -> FvitBatchView:
    """The frozen tower's maps, and the pyramid."""
    side = int(golden(case)["size"])
    return FvitBatchView(detector(case), image(case), [(side, side)])


def levels(case: Case) -> list[Tensor]:
    with torch.no_grad():
        return view(case).levels


@cache
@torch.no_grad()
def judged(case: Case) -> list[RpnLevel]:
    return detector(case).judge(levels(case))


def rois(case: Case) -> Tensor:
    return torch.from_numpy(golden(case)["rois"])[:, 1:]


@cache
@torch.no_grad()
def answers(case: Case) -> RegionAnswers:
    return detector(case).answer(levels(case), [rois(case)])


@cache
@torch.no_grad()
def logits(case: Case) -> tuple[Tensor, Tensor]:
    """The detector's and the frozen CLIP's, of the case's regions."""
    model = detector(case)
    rows = model.class_embeddings, model.background
    own = detector_logits(answers(case).embeddings, *rows, scale=model.box_head.similarity_scale)
    features = model.tower.region_features(view(case).maps.clip, [rois(case)])
    return own, detector_logits(features, *rows, scale=model.config.clip_scale)


def fused(case: Case) -> Tensor:
    config = detector(case).config
    return fused_scores(*logits(case), are_base(builtin_names(config.class_names), config), config)


@pytest.mark.parametrize("case", CASES)
def test_scales_and_the_dense_map(case: Case) -> None:
    frozen, model = view(case).maps, detector(case)
    assert model.scales is not None
    with torch.no_grad():
        scales = model.scales(frozen.scales)
    for level, own in enumerate((*scales, frozen.clip)):
        name, expected = f"backbone{level}", golden(case)
        check(case, f"{name}_shape", own.shape, expected[f"{name}_shape"], rtol=0.0)
        sub = own[:, ::8, ::4, ::4]
        check(case, f"{name}_sub", sub, expected[f"{name}_sub"], rtol=TOLERANCE)
        check_stats(case, name, own)


@pytest.mark.parametrize("case", CASES)
def test_levels_of_the_pyramid(case: Case) -> None:
    expected = golden(case)
    for level, own in enumerate(levels(case)):
        check_stats(case, f"fpn{level}", own)
        if case == FVIT:
            check(case, f"fpn{level}_shape", own.shape, expected[f"fpn{level}_shape"], rtol=0.0)
            step = own.shape[-1] // 5
            sub = own[:, ::16, ::step, ::step][:, :, :5, :5]
            check(case, f"fpn{level}_sub", sub, expected[f"fpn{level}_sub"], rtol=TOLERANCE)


def test_anchors_are_judged_alike() -> None:
    with torch.no_grad():
        scores, deltas = detector(FVIT).rpn_head(levels(FVIT))
    for level in range(5):
        check_stats(FVIT, f"rpn_cls{level}", scores[level])
        check_stats(FVIT, f"rpn_reg{level}", deltas[level])


def test_each_proposal_is_a_box_of_ours_with_its_score() -> None:
    """Most scores are 1, whose order is chance, and NMS follows the order.

    So the boxes are looked for among all that the anchors give, and numbers of proposals are
    nearly those.
    """
    expected = golden(FVIT)
    side = int(expected["size"])
    theirs = torch.from_numpy(expected["proposals"])
    nearest = torch.full((len(theirs),), torch.inf)
    for level in judged(FVIT):
        boxes = clip_boxes(
            decode_boxes(bounded(level.deltas[0]), level.anchors, weights=(1.0, 1.0, 1.0, 1.0)),
            (side, side),
        )
        own = torch.cat([boxes, side * level.logits[0].sigmoid()[:, None]], dim=1)
        wanted = torch.cat([theirs[:, :4], side * theirs[:, 4:]], dim=1)
        nearest = torch.minimum(nearest, torch.cdist(wanted, own, p=torch.inf).amin(dim=1))
    check(FVIT, "proposals", nearest, torch.zeros_like(nearest), rtol=0.0, atol=0.02)
    [found] = detector(FVIT).propose(judged(FVIT), [(side, side)])
    check(FVIT, "num_proposals", len(found), expected["num_proposals"], rtol=0.15)


def test_cells_of_regions() -> None:
    with torch.no_grad():
        cells = detector(FVIT).cells(levels(FVIT), [rois(FVIT)], num_bins=ROI_GRID)
    check_stats(FVIT, "bbox_feats", cells)
    expected = golden(FVIT)["bbox_feats_sub"]
    check(FVIT, "bbox_feats_sub", cells[:, ::16, ::3, ::3], expected, rtol=TOLERANCE)


@pytest.mark.parametrize("case", CASES)
def test_both_opinions_and_their_fusion(case: Case) -> None:
    expected, model = golden(case), detector(case)
    check(case, "bbox_pred", answers(case).deltas, expected["bbox_pred"], rtol=TOLERANCE)
    check(case, "det_logits", logits(case)[0], expected["det_logits"], rtol=TOLERANCE)
    features = model.tower.region_features(view(case).maps.clip, [rois(case)])
    if case == FVIT:
        check(case, "vlm_roi_feats", features, expected["vlm_roi_feats"], rtol=TOLERANCE)
    else:
        unit = F.normalize(features, dim=1)
        check(case, "clip_roi", unit, expected["clip_roi"], rtol=TOLERANCE)
    check(case, "scores_fused", fused(case), expected["scores_fused"], rtol=1e-4)


def test_base_classes_and_rows_are_those_of_the_file() -> None:
    model = detector(FVIT)
    names = builtin_names(model.config.class_names)
    is_base = torch.cat([are_base(names, model.config), torch.tensor([True])])
    check(FVIT, "base_idx", is_base, golden(FVIT)["base_idx"], rtol=0.0)
    check_stats(FVIT, "all_embed", torch.cat([model.class_embeddings, model.background[None]]))
    other = detector(FVLM)
    is_base = are_base(builtin_names(other.config.class_names), other.config)
    weights = [*is_base.tolist(), FVLM_BACKGROUND]
    check(FVLM, "class_weight", weights, golden(FVLM)["class_weight"], rtol=0.0)


def selected(case: Case, boxes: Tensor, own: RegionAnswers, scores: Tensor) -> Selection:
    """Detections of regions, from scores without the background's."""
    side, deltas = int(golden(case)["size"]), bounded(own.deltas, weights=REGION_BOX_WEIGHTS)
    return select_detections(
        decode_boxes(deltas, boxes, weights=REGION_BOX_WEIGHTS),
        scores,
        class_scores=scores,
        size_hw=(side, side),
        options=detector(case).config.selection,
    )


def test_boxes_are_moved_and_suppressed_per_class() -> None:
    expected = golden(FVIT)
    found = selected(FVIT, rois(FVIT), answers(FVIT), fused(FVIT)[:, :-1])
    boxes = torch.cat([found.boxes, found.scores[:, None]], dim=1)
    check(FVIT, "det_labels", found.labels, expected["det_labels"], rtol=0.0)
    check(FVIT, "det_bboxes", boxes, expected["det_bboxes"], rtol=0.0, atol=5e-3)


@torch.no_grad()
def scored_by_all_parts(case: Case, proposals: Proposals) -> ScoredRegions:
    """Proposals as the parts of the detector that users get name and move them."""
    model = detector(case)
    names = builtin_names(model.config.class_names)
    vocabulary = Vocabulary(names, model.class_embeddings, (), "")
    return FvitScorer(model).score(view(case).of(0), proposals, vocabulary)


@pytest.mark.parametrize("case", CASES)
def test_given_proposals_are_named_and_moved_as_in_the_original(case: Case) -> None:
    scored, expected = scored_by_all_parts(case, Proposals(rois(case))), golden(case)
    assert scored.deltas is not None
    own = expected["scores_fused"][:, :-1]
    check(case, "scores_fused[:, :-1]", scored.scores, own, rtol=1e-4)
    check(case, "bbox_pred", scored.deltas, expected["bbox_pred"], rtol=TOLERANCE)


def test_what_is_made_of_given_proposals_is_kept_or_suppressed_as_in_the_original() -> None:
    """The original's best hundred proposals are known, of hundreds that it detected with.

    Each of our boxes from these is then one of its detections, number by number; or one of them,
    of the same class, overlaps it and scores higher; or it scores lower than the last of a hundred.
    """
    expected, options = golden(FVIT), detector(FVIT).config.selection
    side = int(expected["size"])
    theirs = torch.from_numpy(expected["full_dets"]).float()
    scored = scored_by_all_parts(FVIT, Proposals(torch.from_numpy(expected["proposals"])[:, :4]))
    assert scored.deltas is not None
    moved = decode_boxes(scored.deltas, scored.boxes, weights=REGION_BOX_WEIGHTS)
    rows, labels = (scored.scores > theirs[-1, 4] + 1e-5).nonzero().unbind(1)
    own = torch.cat([clip_boxes(moved, (side, side))[rows], scored.scores[rows, labels, None]], 1)
    is_same_class = labels[:, None] == theirs[:, 5]
    apart = (own[:, None] - theirs[None, :, :5]).abs()
    is_kept = is_same_class & (apart[..., :4].amax(dim=2) < 5e-3) & (apart[..., 4] < 1e-5)
    is_suppressed = is_same_class & (own[:, None, 4] < theirs[:, 4] + 1e-5)
    is_suppressed &= box_iou(own[:, :4], theirs[:, :4]) > options.nms_iou - 1e-3
    unexplained = ~(is_kept | is_suppressed).any(dim=1)
    assert is_kept.any()
    check(FVIT, "full_dets", unexplained.sum(), 0, rtol=0.0)


@torch.no_grad()
def all_detections(case: Case) -> Selection:
    """From the image to detections, through the parts of the detector that users get."""
    [proposals] = view(case).propose()
    scored = scored_by_all_parts(case, proposals)
    assert scored.deltas is not None
    own = RegionAnswers(scored.features, scored.deltas)
    return selected(case, scored.boxes, own, scored.scores)


@pytest.mark.parametrize("case", CASES)
def test_detections_of_the_whole_way_are_much_the_same(case: Case) -> None:
    """Proposals with a score of 1 come in an order of chance, and so each side has some of its own.

    Those that both have are the same; of the others only the share is looked at.
    """
    expected, found = golden(case), all_detections(case)
    if case == FVIT:
        numbers = torch.from_numpy(expected["full_dets"]).float()
        boxes, scores, labels = numbers[:, :4], numbers[:, 4], numbers[:, 5].long()
        counts = torch.bincount(found.labels, minlength=65)
        check(case, "full_counts", counts, expected["full_counts"], rtol=0.5)
    else:
        names = ("pred_bboxes", "pred_scores", "pred_labels")
        boxes, scores, labels = (torch.from_numpy(expected[name]) for name in names)
    is_same = (box_iou(boxes, found.boxes) > 0.99) & (labels[:, None] == found.labels)
    is_same &= (scores[:, None] - found.scores).abs() < 1e-3
    missing = 1 - is_same.any(dim=1).float().mean()
    for name in ("full_dets",) if case == FVIT else ("pred_bboxes", "pred_scores", "pred_labels"):
        check(case, name, missing, 0.0, rtol=0.0, atol=0.85)


def test_all_of_the_image_tower_is_frozen() -> None:
    model = detector(FVIT)
    learner = FvitLearner(model, model.class_embeddings, FvitTraining())
    tower = [each for name, each in model.named_parameters() if ".visual." in name]
    expected = golden(FVIT)["param_requires_grad_backbone"]
    check(FVIT, "param_requires_grad_backbone", len(tower), expected, rtol=0.0)
    assert not any(each.requires_grad for each in learner.model.encoder.parameters())
    model.requires_grad_(False).eval()


@pytest.mark.parametrize("case", CASES)
def test_the_loss_of_the_classes(case: Case) -> None:
    """Columns of novel classes are left out, where the original sets them to minus infinity."""
    expected, model = golden(case), detector(case)
    names = builtin_names(model.config.class_names)
    kept = torch.cat([are_base(names, model.config), torch.tensor([True])])
    labels = torch.from_numpy(expected["loss_labels_base" if case == FVIT else "loss_labels"])
    place = kept.cumsum(0) - 1
    # the original weighs regions of novel classes 0, and divides by the number of all regions
    rows = kept[labels]
    loss = focal_scaled_cross_entropy(
        torch.from_numpy(expected["det_logits"])[rows][:, kept],
        place[labels[rows]],
        gamma=0.0,
        background_weight=0.6 if case == FVIT else FVLM_BACKGROUND,
    )
    check(case, "loss_cls", loss.total / len(labels), expected["loss_cls"])
