"""The three localiser forms against detectron2's, from files in the original layout."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch

from regionclip.checkpoints import read_checkpoint
from regionclip.proposals.rpn import RegionProposalNetwork
from regionclip.proposals.rpn_weights import load_rpn
from regionclip.structures import PreparedImage, Proposals

from .golden import check, checkpoint, golden, pixels, stats

LEVELS = {
    "rpn_coco_48": ("res4",),
    "rpn_lvis_866": ("p2", "p3", "p4", "p5", "p6"),
    "rpn_lvis_866_lsj": ("p2", "p3", "p4", "p5", "p6"),
}
IMAGES = {"sm": (320, 480, 0), "odd": (333, 507, 10)}
cases = pytest.mark.parametrize("case", LEVELS)
images = pytest.mark.parametrize("prefix", IMAGES)


@cache
def network(case: str) -> RegionProposalNetwork:
    """Built from a file such as a user downloads, with a name that says nothing."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save({"model": checkpoint(case)}, path)
        return load_rpn(read_checkpoint(path), source=str(path))[0]


def picture(prefix: str) -> PreparedImage:
    height, width, seed_offset = IMAGES[prefix]
    return PreparedImage(
        pixels=pixels(height, width, seed_offset=seed_offset),
        original_size_hw=(height, width),
        name=prefix,
    )


@images
@cases
def test_maps_logits_deltas_and_anchors_are_the_originals(case: str, prefix: str) -> None:
    expected = golden(case)
    proposer = network(case)
    batch = proposer.prepare([picture(prefix).pixels])
    check(case, f"{prefix}_padded", batch.shape[2:], expected[f"{prefix}_padded"], rtol=0.0)
    check(case, f"{prefix}_input_stats", stats(batch), expected[f"{prefix}_input_stats"], rtol=1e-6)
    with torch.no_grad():
        maps = proposer.feature_maps(batch)
        logits, deltas = proposer.head(maps)
        levels = proposer(batch)
    for index, name in enumerate(LEVELS[case]):
        step = max(1, maps[index].shape[2] // 8)
        for array, channel_step, ours in (
            ("feat", 32, maps[index]),
            ("logits", 1, logits[index]),
            ("deltas", 1, deltas[index]),
        ):
            key = f"{prefix}_{name}_{array}"
            check(case, key, ours[0, ::channel_step, ::step, ::step], expected[key])
            check(case, f"{key}_stats", stats(ours), expected[f"{key}_stats"], rtol=1e-5)
        key = f"{prefix}_{name}_anchors_first"
        check(case, key, levels[index].anchors[:15], expected[key], rtol=0.0)


@pytest.mark.parametrize("nms_iou", [0.5, 0.7, 0.9])
@images
@cases
def test_proposals_are_the_originals(case: str, prefix: str, nms_iou: float) -> None:
    expected = golden(case)
    proposer = network(case)
    proposer.selection = replace(proposer.config.selection, nms_iou=nms_iou)
    (proposals,) = proposer.propose([picture(prefix)])
    key = f"{prefix}_nms{int(nms_iou * 10)}"
    # an IoU within rounding of the threshold may fall on either side
    check(case, f"{key}_count", len(proposals), expected[f"{key}_count"], rtol=0.0, atol=2.0)
    scores = expected[f"{key}_scores"]
    check(case, f"{key}_scores", logits_of(proposals)[: len(scores)], scores)
    boxes = partners(proposals, expected[f"{key}_boxes"], scores)
    check(case, f"{key}_boxes", boxes, expected[f"{key}_boxes"], rtol=0.0, atol=0.02)


def partners(proposals: Proposals, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Our box for each golden one: the nearest with the same logit, since equals may swap."""
    is_candidate = np.abs(logits_of(proposals) - scores[:, None]) < 1e-4 * np.abs(scores).max()
    distances = np.abs(proposals.boxes.numpy() - boxes[:, None]).max(axis=2)
    return proposals.boxes.numpy()[np.where(is_candidate, distances, np.inf).argmin(axis=1)]


def logits_of(proposals: Proposals) -> np.ndarray:
    assert proposals.objectness is not None
    return proposals.objectness.numpy()
