"""OpenAI's RN50 as a dense tower, and RN50x64's file, against the originals' own numbers."""

from functools import cache

import pytest
import torch
from torch import Tensor

from regionclip.encoders.dense_resnet import DenseClipResNet
from regionclip.methods.clim.model import Clim
from regionclip.regions.dense_regions import pool_boxes, pool_masks
from regionclip.regions.layer4_regions import pool_boxes_with_attention

from .dense_golden import (
    RTOL,
    boxes,
    check_dense,
    check_images,
    check_unit,
    crops,
    dense_clip,
    images,
    masks,
)
from .training_numbers import check, golden

CASE = "openai_rn50"


@cache
def model() -> Clim:
    return dense_clip("openai_rn50")


@cache
def inputs() -> Tensor:
    return images(model(), int(golden(CASE)["det_size"]))


@pytest.mark.slow
@torch.inference_mode()
def test_maps_whole_images_and_regions_in_both_ways() -> None:
    encoder, expected = model().encoder, golden(CASE)
    assert isinstance(encoder, DenseClipResNet)
    check_images(CASE, model(), inputs())
    check_unit(CASE, "image_embed", encoder.encode_image(crops(224)))
    layer4 = encoder.layer4_map(inputs())
    dense = encoder.dense_of(layer4)
    check_dense(CASE, dense)
    check_unit(CASE, "maskpool", pool_masks(dense, masks(CASE)))
    own = boxes(CASE, inputs().shape[-1])
    check(CASE, "roi_v1", pool_boxes(dense, own, cell=32), expected["roi_v1"], rtol=RTOL)
    pooled = pool_boxes_with_attention(layer4, own, encoder.visual.attnpool)
    check(CASE, "roi_v2", pooled, expected["roi_v2"], rtol=RTOL)
