"""OpenAI's ViT-B/16 as a dense tower, and CLIM's, against the originals' own numbers."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from regionclip.checkpoints import read_checkpoint
from regionclip.concepts.templates import TEMPLATES
from regionclip.encoders.text import UnitPrompts, class_embeddings
from regionclip.encoders.vit import ClipVit
from regionclip.loading.dense import dense_detector_of
from regionclip.methods.clim.model import Clim, build
from regionclip.methods.clim.reading import read_model
from regionclip.regions.dense_regions import pool_boxes, pool_masks
from regionclip.regions.mask_attention import box_cells
from tests.parity.comparing import seed
from tests.tiny_dense import TINY_VIT

from .dense_golden import (
    RTOL,
    SENTENCES,
    SIZES,
    boxes,
    check_dense,
    check_images,
    check_unit,
    crops,
    dense_clip,
    images,
    masks,
    write_checkpoint,
)
from .training_numbers import check, golden, normalized, picture, pixels, stats

pytestmark = pytest.mark.slow
CASE, TRAINED = "openai_vitb16", "clim_vitb16_trained_ckpt"
CELL = 16
FEW_NAMES = ("traffic light", "aerosol_can", "cup")
NAMES = ("cat", *FEW_NAMES, "Band_Aid", "cabinet/shelf", "umbrella", "hot dog.")


@cache
def model() -> Clim:
    return dense_clip("openai_vitb16")


@cache
def side() -> int:
    return int(golden(CASE)["det_size"])


@cache
def inputs() -> Tensor:
    return images(model(), side())


@cache
def dense_and_whole() -> tuple[Tensor, Tensor]:
    with torch.inference_mode():
        return model().encoder.dense_and_whole(inputs())


def vit() -> ClipVit:
    encoder = model().encoder
    assert isinstance(encoder, ClipVit)
    return encoder


def test_images() -> None:
    check_images(CASE, model(), inputs())


@torch.inference_mode()
def test_whole_images_of_the_trained_size_and_larger() -> None:
    check_unit(CASE, "image_embed", vit().encode_image(crops(224)))
    expected = golden(CASE)["image_embed_det_size"]
    own = dense_and_whole()[1][: len(expected)]
    check(CASE, "image_embed_det_size", own, expected, rtol=RTOL)


@torch.inference_mode()
def test_the_map_and_its_boxes_and_masks() -> None:
    dense, whole = dense_and_whole()
    check_dense(CASE, dense)
    check_unit(CASE, "roi_v2", pool_boxes(dense, boxes(CASE, side()), cell=CELL))
    check_unit(CASE, "maskpool", pool_masks(dense, masks(CASE)))
    expected = golden(CASE)
    rois = F.normalize(pool_boxes(dense, boxes(CASE, side()), cell=CELL), dim=1)
    check(CASE, "rois_and_image_roi", rois, expected["rois_and_image_roi"], rtol=RTOL)
    whole = F.normalize(whole, dim=1)
    check(CASE, "rois_and_image_img", whole, expected["rois_and_image_img"], rtol=RTOL)


@torch.inference_mode()
def test_mask_attention_and_where_a_box_leaves_the_image() -> None:
    size = (side() // CELL, side() // CELL)
    own_boxes = [box_cells(each, size, cell=CELL) for each in boxes(CASE, side())]
    # upstream's box that begins left of and above the image selects from the other end of each
    # row, so nothing; ours is cut at the border
    leaving = 16
    empty = torch.zeros_like(own_boxes[0][:1])
    own_masks = masks(CASE)
    asked = [
        torch.cat([own_boxes[0], empty, own_masks[0]]),
        torch.cat([own_boxes[1], own_masks[1]]),
    ]
    first, second = vit().encode_masks(inputs(), asked)
    expected = golden(CASE)
    as_upstream = first[:20].clone()
    as_upstream[leaving] = first[20]
    rois = torch.cat([as_upstream, second[:7]])
    check(CASE, "roi_v1", rois, expected["roi_v1"], rtol=RTOL)
    assert own_boxes[0][leaving].any()
    assert not torch.allclose(first[leaving], first[20], rtol=0.1)
    found = torch.cat([first[21:], second[7:]])
    check(CASE, "mask_attn", found, expected["mask_attn"], rtol=RTOL)


@torch.inference_mode()
def test_a_map_that_is_no_square() -> None:
    image = normalized(pixels(256, 384, 5 + 1000 * seed())[None])
    dense, expected = vit().dense_features(image), golden(CASE)
    sub = expected["dense_256x384_sub"]
    check(CASE, "dense_256x384_sub", dense[:, :, ::4, ::4], sub, rtol=RTOL)
    wanted = expected["dense_256x384_stats"]
    check(CASE, "dense_256x384_stats", stats(dense), wanted, rtol=RTOL)


@torch.inference_mode()
def test_words() -> None:
    tokens = vit().tokenize(SENTENCES)
    check(CASE, "tokens", tokens, golden(CASE)["tokens"], rtol=0.0)
    check_unit(CASE, "text_embed", vit().encode_tokens(tokens))


def test_names_in_vilds_sentences() -> None:
    expected = golden(CASE)
    for array, few in (("text_ensemble", FEW_NAMES), ("text_ensemble_fvit", ("cabinet/shelf",))):
        rows = expected[array]
        own = ensembles(NAMES if len(rows) == len(NAMES) else few)
        check(CASE, array, own, rows, rtol=RTOL)


@cache
def ensembles(names: tuple[str, ...]) -> Tensor:
    return F.normalize(class_embeddings(UnitPrompts(vit()), names, TEMPLATES["vild63"]), dim=1)


@torch.inference_mode()
def test_a_detectors_regions_are_those_numbers() -> None:
    height, width, number = SIZES[0]
    own = picture(height, width, number + 1000 * seed())
    small = build(replace(model().config, vit=TINY_VIT, longest_side=side()))
    small.encoder = vit()
    given = torch.from_numpy(golden(CASE)["boxes"])
    rows = ((given >= 0) & (given <= torch.tensor([1, height / width] * 2))).all(dim=1)
    rows &= (given[:, 2:] > given[:, :2]).all(dim=1)  # others are refused where users ask
    assert rows.sum() >= 5
    found = dense_detector_of(small).encode_regions(own, given[rows] * width)
    expected = golden(CASE)["roi_v2"][:20][rows.numpy()]
    check(CASE, "roi_v2[inside]", found, expected, rtol=RTOL)


@torch.inference_mode()
def test_a_trained_checkpoint_with_either_activation(tmp_path: Path) -> None:
    expected, size = golden(TRAINED), int(golden(TRAINED)["det_size"])
    path = tmp_path / "epoch_100.pt"
    write_checkpoint(path, "openai_vitb16_coco_clim", wrapped=True)
    state = read_checkpoint(path)
    for activation in ("quick_gelu", "gelu"):
        prefix = activation.replace("_", "") + "_"
        own = read_model(path, state, activation=activation).model
        whole = own.encoder.encode_image(crops(224))
        check(TRAINED, f"{prefix}image_embed", whole, expected[f"{prefix}image_embed"], rtol=RTOL)
        dense = own.encoder.dense_features(images(own, size))
        check_dense(TRAINED, dense, prefix=prefix)
        rois = pool_boxes(dense, boxes(TRAINED, size, prefix=prefix), cell=CELL)
        check(TRAINED, f"{prefix}roi_v2", rois, expected[f"{prefix}roi_v2"], rtol=RTOL)
        # the case has the masks of OpenAI's, whose maps are of the same size
        under = pool_masks(dense, masks(CASE))
        check(TRAINED, f"{prefix}maskpool", under, expected[f"{prefix}maskpool"], rtol=RTOL)
    difference = np.abs(expected["gelu_roi_v2"] - expected["quickgelu_roi_v2"]).max()
    assert difference > 20 * RTOL * np.abs(expected["gelu_roi_v2"]).max()
