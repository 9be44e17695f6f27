"""EVA-02's towers and their maps, and CLIPSelf's trained file, against the originals' numbers."""

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from regionclip.concepts.templates import TEMPLATES
from regionclip.data.letterbox import letterbox
from regionclip.data.transforms import normalize_and_pad, pixels_of, resize_shortest_edge
from regionclip.encoders.eva import EvaClip
from regionclip.encoders.text import UnitPrompts, class_embeddings
from regionclip.methods.clipself.reading import read_model
from regionclip.regions.dense_regions import network_input, pool_boxes, pool_masks
from tests.parity.clim.training_numbers import check, golden, picture, stand_ins, stats
from tests.parity.comparing import parity_folder, seed

pytestmark = pytest.mark.slow
RTOL = 2e-5
"""Relative: attention goes through another kernel."""
BASE, LARGE, TRAINED = "eva02_clip_b16", "eva02_clip_l14_336", "clipself_vitb16_trained_ckpt"
CASES = {
    BASE: ("eva02_clip_b_psz16_s8b", "bare"),
    LARGE: ("eva02_clip_l_336_psz14_s6b", "bare"),
    TRAINED: ("eva_vitb16_coco_clipself", "wrapped"),
}
SENTENCES = (
    "a photo of a cat.",
    "a photo of a dog.",
    "There is a traffic light in the scene.",
    "two people riding bicycles on a busy street",
    "a plate of food with broccoli and carrots",
    "This is a photo of the aerosol can.",
    "itap of my umbrella.",
    "A red double-decker bus!",
    "interior design of modern living room with fireplace in a new house",
    "x",
)
each_case = pytest.mark.parametrize("case", CASES)


@dataclass(frozen=True, slots=True)
class Run:
    """One file, read as users' files are, and what its towers make of the two images."""

    encoder: EvaClip
    det_input: Tensor
    crop_input: Tensor
    dense: Tensor
    det_whole: Tensor
    image_embed: Tensor


@cache
def run(case: str) -> Run:
    manifest, form = CASES[case]
    path = parity_folder() / "clim" / "manifests" / f"{manifest}.json"
    if not path.is_file():
        pytest.skip(f"no manifest: {path} is not there")
    state: dict[str, Any] = stand_ins().build(path, seed())
    if form == "wrapped":
        state = {"epoch": 6, "name": "run", "state_dict": state, "optimizer": {"state": {}}}
    with tempfile.TemporaryDirectory() as folder:
        torch.save(state, Path(folder) / "file.pt")
        read = read_model(Path(folder) / "file.pt")
    assert not read.report.missing
    assert not read.report.left_over
    encoder = read.model.encoder.requires_grad_(False)
    size = 224 if case == LARGE else int(golden(case)["det_size"])
    first = 1000 * seed()
    pictures = [picture(480, 640, 7 + first), picture(333, 250, 8 + first)]
    resized = [
        resize_shortest_edge(
            each, shortest=1, longest=size, interpolation="bicubic", rule="longest"
        )
        for each in pictures
    ]
    det_input = torch.cat([network_input(encoder, each, padding="square") for each in resized])
    crops = [pixels_of(letterbox(each, encoder.image_size)) for each in pictures]
    crop_input = normalize_and_pad(crops, mean=encoder.mean, std=encoder.std)
    with torch.inference_mode():
        dense, det_whole = encoder.dense_and_whole(det_input)
        image_embed = encoder.encode_image(crop_input)
    return Run(encoder, det_input, crop_input, dense, det_whole, image_embed)


def boxes_of(case: str) -> list[Tensor]:
    boxes = torch.from_numpy(golden(case)["boxes"]) * run(case).det_input.shape[-1]
    return [boxes, boxes[:7]]


def masks_of(case: str) -> list[Tensor]:
    # the trained file's case has the base model's masks
    expected = golden(case if "masks" in golden(case) else BASE)
    shape = tuple(expected["masks_shape"])
    bits = np.unpackbits(expected["masks"])[: np.prod(shape)].reshape(shape)
    masks = torch.from_numpy(bits).bool()
    return [masks, masks[:2]]


@pytest.mark.parametrize("case", [BASE, LARGE])
def test_images_as_the_towers_take_them(case: str) -> None:
    own, expected = run(case), golden(case)
    steps = (38, 12) if case == LARGE else (25, 21)
    assert expected["crop_input_sub"].shape[2] in steps
    for name, images, rows, columns in (
        ("det_input", own.det_input, 17, 19),
        ("crop_input", own.crop_input, 9, 11),
    ):
        check(case, f"{name}_sub", images[:, :, ::rows, ::columns], expected[f"{name}_sub"])
        check(case, f"{name}_stats", stats(images), expected[f"{name}_stats"])


@each_case
def test_vectors_of_whole_images(case: str) -> None:
    own, expected = run(case), golden(case)
    check(case, "image_embed", own.image_embed, expected["image_embed"], rtol=RTOL)
    if case == BASE:
        name = "image_embed_det_size"
        check(case, name, own.det_whole[:1], expected[name], rtol=RTOL)
        name = "rois_and_image_img"
        check(case, name, F.normalize(own.det_whole), expected[name], rtol=RTOL)


@each_case
def test_dense_maps(case: str) -> None:
    dense, expected = run(case).dense, golden(case)
    check(case, "dense_sub", dense[:, :, ::4, ::4], expected["dense_sub"], rtol=RTOL)
    check(case, "dense_stats", stats(dense), expected["dense_stats"], rtol=RTOL)
    if case != TRAINED:
        shape = expected["dense_shape"]
        check(case, "dense_shape", dense.shape[: len(shape)], shape, rtol=0.0)
        check(case, "dense_row", dense[0, :, 5], expected["dense_row"], rtol=RTOL)


@each_case
def test_vectors_of_boxes(case: str) -> None:
    own, expected = run(case), golden(case)
    vectors = pool_boxes(own.dense, boxes_of(case), cell=float(own.encoder.cell))
    check(case, "roi_v2", vectors, expected["roi_v2"], rtol=RTOL)
    if case == BASE:
        name = "rois_and_image_roi"
        check(case, name, F.normalize(vectors), expected[name], rtol=RTOL)


@each_case
def test_vectors_of_masks(case: str) -> None:
    vectors = pool_masks(run(case).dense, masks_of(case))
    check(case, "maskpool", vectors, golden(case)["maskpool"], rtol=RTOL)


@torch.inference_mode()
def test_texts() -> None:
    encoder, expected = run(BASE).encoder, golden(BASE)
    tokens = encoder.tokenize(SENTENCES)
    check(BASE, "tokens", tokens, expected["tokens"], rtol=0.0)
    vectors = encoder.encode_tokens(tokens)
    check(BASE, "text_embed", vectors, expected["text_embed"], rtol=RTOL)
    check(BASE, "text_embed_norm", F.normalize(vectors), expected["text_embed_norm"], rtol=RTOL)


def test_class_names_in_prompts() -> None:
    names = ["traffic light", "aerosol_can", "cup", "cabinet/shelf"]
    rows = class_embeddings(UnitPrompts(run(BASE).encoder), names, TEMPLATES["vild63"])
    rows, expected = F.normalize(rows), golden(BASE)
    check(BASE, "text_ensemble", rows[:3], expected["text_ensemble"], rtol=RTOL)
    check(BASE, "text_ensemble_fvit", rows[3:], expected["text_ensemble_fvit"], rtol=RTOL)
