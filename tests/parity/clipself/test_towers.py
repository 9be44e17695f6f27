"""EVA-02's towers and their maps, and CLIPSelf's trained file, against the originals' numbers."""

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from regionclip.concepts.templates import TEMPLATES
from regionclip.encoders.text import UnitPrompts, class_embeddings
from regionclip.methods.clipself.model import ClipSelf
from regionclip.methods.clipself.reading import read_model
from regionclip.regions.dense_regions import pool_boxes, pool_masks
from tests.parity.clim.dense_golden import (
    RTOL,
    SENTENCES,
    boxes,
    check_dense,
    check_images,
    check_unit,
    crops,
    images,
    masks,
    write_checkpoint,
)
from tests.parity.clim.training_numbers import check, golden

pytestmark = pytest.mark.slow
BASE, LARGE, TRAINED = "eva02_clip_b16", "eva02_clip_l14_336", "clipself_vitb16_trained_ckpt"
MANIFESTS = {
    BASE: "eva02_clip_b_psz16_s8b",
    LARGE: "eva02_clip_l_336_psz14_s6b",
    TRAINED: "eva_vitb16_coco_clipself",
}
each_case = pytest.mark.parametrize("case", MANIFESTS)


@dataclass(frozen=True, slots=True)
class Run:
    """One file, read as users' files are, and what its towers make of the two images."""

    model: ClipSelf
    side: int
    inputs: Tensor
    dense: Tensor
    whole: Tensor
    image_embed: Tensor


@cache
def run(case: str) -> Run:
    """Trained files are as training leaves them; the others are bare, in half precision."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        # words are asked of the base model alone
        zeros = None if case == BASE else "text."
        write_checkpoint(path, MANIFESTS[case], wrapped=case == TRAINED, zeros=zeros)
        read = read_model(path)
    assert not read.report.missing
    assert not read.report.left_over
    model = read.model.requires_grad_(False)
    side = int(golden(case)["det_size"])
    inputs = images(model, side)
    with torch.inference_mode():
        dense, whole = model.encoder.dense_and_whole(inputs)
        image_embed = model.encoder.encode_image(crops(model.encoder.image_size))
    return Run(model, side, inputs, dense, whole, image_embed)


@pytest.mark.parametrize("case", [BASE, LARGE])
def test_images_as_the_towers_take_them(case: str) -> None:
    check_images(case, run(case).model, run(case).inputs)


@each_case
def test_vectors_of_whole_images(case: str) -> None:
    own, expected = run(case), golden(case)
    check(case, "image_embed", own.image_embed, expected["image_embed"], rtol=RTOL)
    if case == BASE:
        name = "image_embed_det_size"
        check(case, name, own.whole[:1], expected[name], rtol=RTOL)
        name = "rois_and_image_img"
        check(case, name, F.normalize(own.whole), expected[name], rtol=RTOL)


@each_case
def test_dense_maps(case: str) -> None:
    check_dense(case, run(case).dense)


@each_case
def test_vectors_of_boxes(case: str) -> None:
    own, expected = run(case), golden(case)
    vectors = pool_boxes(own.dense, boxes(case, own.side), cell=own.model.encoder.cell)
    check(case, "roi_v2", vectors, expected["roi_v2"], rtol=RTOL)
    if case == BASE:
        name = "rois_and_image_roi"
        check(case, name, F.normalize(vectors), expected[name], rtol=RTOL)


@each_case
def test_vectors_of_masks(case: str) -> None:
    # the trained file's numbers are of the base model's masks
    vectors = pool_masks(run(case).dense, masks(BASE if case == TRAINED else case))
    check(case, "maskpool", vectors, golden(case)["maskpool"], rtol=RTOL)


@torch.inference_mode()
def test_texts() -> None:
    encoder, expected = run(BASE).model.encoder, golden(BASE)
    tokens = encoder.tokenize(SENTENCES)
    check(BASE, "tokens", tokens, expected["tokens"], rtol=0.0)
    check_unit(BASE, "text_embed", encoder.encode_tokens(tokens))


def test_class_names_in_prompts() -> None:
    names = ["traffic light", "aerosol_can", "cup", "cabinet/shelf"]
    rows = class_embeddings(UnitPrompts(run(BASE).model.encoder), names, TEMPLATES["vild63"])
    rows, expected = F.normalize(rows), golden(BASE)
    check(BASE, "text_ensemble", rows[:3], expected["text_ensemble"], rtol=RTOL)
    check(BASE, "text_ensemble_fvit", rows[3:], expected["text_ensemble_fvit"], rtol=RTOL)
