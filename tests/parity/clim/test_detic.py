"""From an image to scores, against CLIM's Detic on OV-COCO (R50-C4), and the classes' loss."""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from regionclip.concepts.class_names import builtin_names
from regionclip.detections.box_coder import (
    REGION_BOX_WEIGHTS,
    bounded,
    clip_boxes,
    decode_boxes,
    nonempty,
)
from regionclip.detections.nms import batched_nms
from regionclip.detections.select import select_detections
from regionclip.losses import sampled_class_loss
from regionclip.losses.compositions import similarity_logits
from regionclip.methods.detic.config import VARIANTS, as_published
from regionclip.methods.detic.model import Detic, RegionAnswers
from regionclip.methods.detic.reading import ReadDetic, read_model

from .training_numbers import (
    check,
    embedding_file,
    golden,
    manifest,
    pixels,
    seed,
    stand_ins,
    stats,
)

pytestmark = pytest.mark.slow
CASE = "detic_clim_c4"
RTOL = 2e-5


def numbers(name: str) -> Tensor:
    return torch.from_numpy(golden(CASE)[name])


@cache
def read() -> ReadDetic:
    """The model of a file in the original's form, as users get it."""
    rows = torch.from_numpy(np.load(embedding_file("coco_clip_hand_craft.npy")).astype(np.float32))
    state = stand_ins().build(manifest("detic_coco_cap_w_tags_clim"), seed())
    for name in golden(CASE)["kept_keys"].tolist():
        state[name] = rows if name.endswith("embeddings") else torch.full((1,), -20.0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "iter_45000.pth"
        torch.save({"state_dict": state}, path)
        return read_model(path)


def model() -> Detic:
    return read().model.requires_grad_(False)


@cache
def maps() -> list[Tensor]:
    side = int(golden(CASE)["size"])
    return model().maps([pixels(side, side, 600_000 * (seed() + 1) + n) for n in range(2)])


@cache
def answers() -> RegionAnswers:
    rois = numbers("rois")
    return model().answer(maps(), [rois[rois[:, 0] == image, 1:] for image in range(2)])


def test_the_file_is_read_whole() -> None:
    assert read().has_text_tower
    assert read().report.missing == ()
    assert len(read().report.left_over) == 1
    assert read().model.config == VARIANTS["detic-ov-coco-r50"]


def test_maps() -> None:
    own = torch.cat(maps())
    check(CASE, "feat_sub", own[:, ::32, ::2, ::2], numbers("feat_sub"), rtol=RTOL)
    check(CASE, "feat_stats", stats(own), numbers("feat_stats"), rtol=RTOL)


def test_vectors_offsets_and_logits_of_regions() -> None:
    check(CASE, "bbox_pred", answers().deltas, numbers("bbox_pred"), rtol=RTOL)
    rows = model().class_embeddings
    scale = model().config.similarity_scale
    logits = similarity_logits(answers().embeddings, rows, scale=scale)
    # the original takes class rows as they are stored, of length one but for float16
    expected = numbers("cls_logits_eval")[:, :-1]
    check(CASE, "cls_logits_eval", logits, expected, rtol=1e-3)
    unit = 25 * F.normalize(answers().embeddings, dim=1)
    check(CASE, "cls_logits_eval, rows as stored", unit @ rows.T, expected, rtol=RTOL)
    background = unit @ model().background
    check(CASE, "cls_logits_eval[:, -1]", background, numbers("cls_logits_eval")[:, -1], rtol=1e-4)


def test_logits_of_training_are_those_of_detection_and_the_bias() -> None:
    embeddings, scale = answers().embeddings, model().config.similarity_scale
    logits = similarity_logits(embeddings, model().class_embeddings, scale=scale)
    expected = numbers("cls_logits_train")
    # class rows are normalised here and not in the original, as above
    check(CASE, "cls_logits_train", logits + model().class_bias, expected[:, :-1], rtol=1e-3)
    background = scale * F.normalize(embeddings, dim=1) @ model().background + model().class_bias
    check(CASE, "cls_logits_train[:, -1]", background, expected[:, -1], rtol=RTOL)


def test_vectors_of_tiles_and_of_proposals_in_them() -> None:
    for kind in ("detic_caption", "detic_tags"):
        counts = golden(CASE)[f"{kind}_split"].tolist()
        boxes = numbers(f"{kind}_boxes").split(counts)
        own = model().embed(maps(), boxes)
        name = f"{kind}_region_embeddings"
        check(CASE, name, own, numbers(name), rtol=RTOL)
    # the first mosaic once more, with groups drawn by the same numbers
    own = model().embed(maps()[:1], [numbers("second_boxes")])
    check(CASE, "second_region_embeddings", own, numbers("second_region_embeddings"), rtol=RTOL)


def test_texts_of_captions() -> None:
    tokens = numbers("cap_tokens")
    vectors = F.normalize(model().encoder.encode_tokens(tokens), dim=1)
    check(CASE, "cap_features", vectors, F.normalize(numbers("cap_features"), dim=1), rtol=RTOL)


def test_what_classes_cost() -> None:
    names = builtin_names("coco80")
    base = [row for row, name in enumerate(names) if name in builtin_names("coco48")]
    logits = 25 * F.normalize(answers().embeddings, dim=1) @ model().class_embeddings[base].T
    labels = numbers("loss_labels")
    loss = sampled_class_loss(logits + model().class_bias, labels, torch.tensor(base))
    check(CASE, "loss_cls", loss.mean(), golden(CASE)["loss_cls"], rtol=RTOL)


@cache
def proposals(image: int) -> tuple[Tensor, Tensor]:
    """Boxes and their scores, in the original's order.

    Scores are 1 in float32, and of equal ones the earlier anchor's comes first.

    The original has the sizes of a cell's anchors within their shapes, and drops by the scores;
    ours go by the logits, which are not equal.
    """
    side, judged = int(golden(CASE)["size"]), model().judge(maps()[image])
    num_shapes, num_sizes = 3, 5

    def in_its_order(values: Tensor) -> Tensor:
        cells = values.unflatten(0, (-1, num_sizes, num_shapes))
        return cells.transpose(1, 2).flatten(0, 2)

    deltas, anchors = bounded(in_its_order(judged.deltas[0])), in_its_order(judged.anchors)
    boxes = decode_boxes(deltas, anchors, weights=(1.0, 1.0, 1.0, 1.0))
    boxes, scores = clip_boxes(boxes, (side, side)), in_its_order(judged.logits[0]).sigmoid()
    kept = nonempty(boxes)
    boxes, scores = boxes[kept], scores[kept]
    labels = torch.zeros_like(scores, dtype=torch.int64)
    selection = model().config.rpn.selection
    kept = batched_nms(boxes, scores, labels, nms_iou=selection.nms_iou)
    return boxes[kept], scores[kept]


def test_proposals_are_the_originals_in_its_order() -> None:
    check(
        CASE,
        "num_prop",
        [len(proposals(image)[0]) for image in range(2)],
        golden(CASE)["num_prop"],
        rtol=0.0,
    )
    boxes, scores = proposals(0)
    expected = numbers("rpn_top")
    # offsets are exponents here: a box of 256 pixels is off by some hundredths of one
    check(CASE, "rpn_top[:, :4]", boxes, expected[:, :4], rtol=0.0, atol=0.05)
    check(CASE, "rpn_top[:, 4]", scores, expected[:, 4], rtol=1e-6)


def test_detections_of_the_whole_way() -> None:
    """With the original's scores, which lack the bias, and class rows as they are stored."""
    side, (boxes, _) = int(golden(CASE)["size"]), proposals(0)
    own = model().answer(maps()[:1], [boxes])
    scores = 25 * F.normalize(own.embeddings, dim=1) @ model().class_embeddings.T
    found = select_detections(
        decode_boxes(
            bounded(own.deltas, weights=REGION_BOX_WEIGHTS), boxes, weights=REGION_BOX_WEIGHTS
        ),
        scores.sigmoid(),
        class_scores=scores.sigmoid(),
        size_hw=(side, side),
        options=as_published(model().config).selection,
    )
    expected = numbers("pred")
    check(CASE, "pred[:, :4]", found.boxes, expected[:, :4], rtol=0.0, atol=0.05)
    check(CASE, "pred[:, 4]", found.scores, expected[:, 4], rtol=1e-4)
    check(CASE, "pred[:, 5]", found.labels, expected[:, 5], rtol=0.0)
