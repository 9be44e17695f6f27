"""Maps, their positions, and the three ways to a region's vector against CORA's own numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from regionclip.methods.cora.model import Cora, ImageMaps, cell_boxes
from regionclip.methods.cora.positions import map_positions
from regionclip.methods.cora.reading import set_region_prompt
from regionclip.regions.attention_pool import attention_pool
from regionclip.regions.map_attention import pool_boxes_on_map
from regionclip.regions.roi_align import roi_align
from regionclip.regions.valid_cells import valid_sizes_wh
from regionclip.scoring.cosine import class_logits

from .golden import (
    ARCHITECTURES,
    check,
    check_sampled,
    detector,
    golden,
    image_a,
    maps_of_a,
    maps_of_two,
    sampled,
    seed,
    stand_ins,
)

pytestmark = pytest.mark.slow
each_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


def positions_of(padding: Tensor) -> Tensor:
    return map_positions(padding, channels=256).permute(0, 3, 1, 2)


@each_architecture
def test_maps_of_an_image(architecture: str) -> None:
    case, maps = f"{architecture.lower()}_backbone", maps_of_a(architecture)
    check_sampled(case, "image", detector(architecture).encoder.prepare([image_a()]))
    for level, own in (("layer3", maps.layer3), ("layer4", maps.layer4)):
        check(case, f"{level}_shape", own.shape, golden(case)[f"{level}_shape"], rtol=0.0)
        check_sampled(case, level, own)
    check_sampled(case, "pos_layer3", positions_of(maps.layer3_padding))
    check_sampled(case, "pos_layer4", positions_of(maps.layer4_padding))


@each_architecture
def test_maps_and_masks_of_a_padded_batch(architecture: str) -> None:
    case, maps = f"{architecture.lower()}_backbone", maps_of_two(architecture)
    for level, own, padding in (
        ("layer3", maps.layer3, maps.layer3_padding),
        ("layer4", maps.layer4, maps.layer4_padding),
    ):
        name = f"batch2_{level}"
        check(case, f"{name}_mask", padding, golden(case)[f"{name}_mask"], rtol=0.0)
        check_sampled(case, name, own)
        # outside the images upstream divides by almost nothing: waves of millions, seen by nobody
        name, positions = f"batch2_pos_{level}", positions_of(padding)
        expected = golden(case)[f"{name}_sub"]
        inside = (~padding)[:, None].expand_as(positions)
        rows = sampled(inside, len(expected))
        assert rows.any()
        assert not rows.all()
        own = sampled(positions, len(expected))
        check(case, f"{name}_sub[inside]", own[rows], expected[rows])


def exact_on_layer4(model: Cora, maps: ImageMaps, boxes_cxcywh: Tensor) -> Tensor:
    """What upstream's ``--no_efficient_pooling`` pre-matches with."""
    pool = model.encoder.visual.attnpool
    own = cell_boxes(boxes_cxcywh, maps.layer4_padding)[0]
    index = torch.zeros(len(own), dtype=torch.long)
    grid = model.encoder.spec.pool_grid
    cells = roi_align(maps.layer4, own, index, num_bins=grid, spatial_scale=1.0)
    return attention_pool(cells, pool)


def fast(model: Cora, maps: ImageMaps, boxes_cxcywh: Tensor) -> Tensor:
    boxes = cell_boxes(boxes_cxcywh, maps.layer4_padding)
    pool = partial(pool_boxes_on_map, pool=model.encoder.visual.attnpool)
    return torch.stack([pool(*pair) for pair in zip(maps.layer4, boxes, strict=True)])


@contextmanager
def clips_own_positions(model: Cora) -> Iterator[None]:
    """Without region prompt: CLIP's positions, as the file of CLIP has them."""
    prompt = model.region_prompt.clone()
    name = "visual.attnpool.positional_embedding"
    own = stand_ins().values_for(name, tuple(prompt.shape), seed())
    set_region_prompt(model.encoder, torch.from_numpy(own))
    yield
    set_region_prompt(model.encoder, prompt)


@each_architecture
def test_regions_in_three_ways_with_and_without_prompt(architecture: str) -> None:
    case, model = f"{architecture.lower()}_region", detector(architecture)
    maps, expected = maps_of_a(architecture), golden(case)
    boxes = torch.from_numpy(expected["boxes_cxcywh"])[None]
    classes = torch.from_numpy(expected["class_embeddings"])

    def compare(prompt: str) -> None:
        vectors = {
            "full": model.region_features(maps, boxes)[0],
            "fast": fast(model, maps, boxes)[0],
            "layer4exact": exact_on_layer4(model, maps, boxes),
        }
        for way, own in vectors.items():
            name = f"{prompt}_{way}"
            check(case, f"{name}_feat", F.normalize(own, dim=1), expected[f"{name}_feat"])
            logits = class_logits(own, classes)
            check(case, f"{name}_logits", logits, expected[f"{name}_logits"])

    with torch.inference_mode():
        compare("prompt")
        with clips_own_positions(model):
            compare("noprompt")


@each_architecture
@torch.inference_mode()
def test_regions_of_a_padded_batch_are_scaled_by_what_is_not_padding(architecture: str) -> None:
    case, model = f"{architecture.lower()}_region", detector(architecture)
    maps, expected = maps_of_two(architecture), golden(case)
    for level, padding in (("layer3", maps.layer3_padding), ("layer4", maps.layer4_padding)):
        name = f"batch2_sizes_{level}"
        check(case, name, valid_sizes_wh(padding), expected[name], rtol=0.0)
    boxes = torch.from_numpy(expected["batch2_boxes"])
    for way, own in (
        ("full", model.region_features(maps, boxes)),
        ("fast", fast(model, maps, boxes)),
    ):
        name = f"batch2_{way}_feat"
        check(case, name, F.normalize(own, dim=2), expected[name])
