"""Mosaics, grids, proposals, crops, schedules and averages against the originals' numbers."""

import json
from random import Random

import numpy as np
import pytest
import torch
from torch import nn

from regionclip.data.crop_loading import CropPairing, pair_crops
from regionclip.data.readers import open_dataset
from regionclip.data.square_fitting import SquareFitting
from regionclip.evaluation.class_means import class_shares, mean_class_accuracy
from regionclip.evaluation.report import mean_of
from regionclip.pairs import compose_mosaics, tile_boxes
from regionclip.pairs.crops import GivenRegions, GridCells, RegionDraw, grids
from regionclip.training import Optimization
from regionclip.training.averaging import StartWeights
from regionclip.training.optimization import learning_rate_factor
from tests.parity.clim.training_numbers import (
    check,
    golden,
    normalized,
    pixels,
    sampled_stats,
    stats,
    toy_folder,
    toy_pictures,
)
from tests.parity.comparing import seed

TOY, CLIM, MISC = "toy_data", "loss_clim", "misc"
CROPS = 2e-5
"""Relative; sums over all pixels of a crop."""


def test_mosaics_are_those_of_the_original() -> None:
    first = 100_000 * (seed() + 1)
    images = normalized(torch.stack([pixels(224, 224, first + row) for row in range(32)]))
    mosaics = compose_mosaics(images, sides=(2, 3, 4), pixels_per_side=256)
    expected = golden(CLIM)
    check(CLIM, "mosaic_shape", mosaics.pixels.shape, expected["mosaic_shape"], rtol=0.0)
    check(CLIM, "mosaic_sub", mosaics.pixels[:, :, ::8, ::8], expected["mosaic_sub"], rtol=1e-6)
    check(CLIM, "mosaic_stats", stats(mosaics.pixels), expected["mosaic_stats"], rtol=1e-6)
    check(CLIM, "n_single", len(mosaics.singles), expected["n_single"], rtol=0.0)
    for side in (2, 3, 4):
        name = f"boxes_{side}x{side}"
        check(CLIM, name, tile_boxes(side), expected[name], rtol=1e-6)


def test_images_take_their_places_in_mosaics_in_their_order() -> None:
    images = torch.arange(61.0)[:, None, None, None].expand(61, 3, 8, 8)
    mosaics = compose_mosaics(images, sides=(2, 3, 4), pixels_per_side=16)
    expected = golden(CLIM)
    counts = [len(each) for each in mosaics.boxes]
    check(CLIM, "assign61_boxes_per_mosaic", counts, expected["assign61_boxes_per_mosaic"])
    corner = mosaics.pixels[:, 0]
    check(CLIM, "assign61_corner", corner, expected["assign61_corner"], rtol=1e-6)
    singles = mosaics.singles[:, 0, 0, 0]
    check(CLIM, "assign61_single", singles, expected["assign61_single"], rtol=0.0)


@pytest.mark.parametrize("kind", ["grid", "prop"])
@pytest.mark.parametrize("number", range(4))
def test_regions_and_their_crops_are_those_of_the_original(kind: str, number: int) -> None:
    path = toy_folder() / "detection.json"
    picture, sample = toy_pictures()[number % 3], open_dataset(path)[number % 3]
    regions: RegionDraw = GridCells() if kind == "grid" else GivenRegions()
    pairing = CropPairing(regions=regions, image_side=256, crop_side=224)
    paired = pair_crops(
        picture, sample.objects.boxes, pairing, chance=Random(100 * seed() + number)
    )
    expected, name = golden(TOY), f"{kind}{number}"
    rows = np.zeros((20, 5))
    rows[: len(paired.boxes), :4] = paired.boxes / 256
    rows[: len(paired.boxes), 4] = 1
    check(TOY, f"{name}_boxes", rows, expected[f"{name}_boxes"], rtol=1e-6)
    crops = sampled_stats(normalized(paired.crops), 20)
    check(TOY, f"{name}_crop_stats", crops, expected[f"{name}_crop_stats"], rtol=CROPS)
    image = stats(normalized(paired.pixels))
    check(TOY, f"{name}_image_stats", image, expected[f"{name}_image_stats"], rtol=CROPS)


def test_boxes_with_names_are_those_of_the_original() -> None:
    path = toy_folder() / "detection.json"
    picture, objects = toy_pictures()[0], open_dataset(path)[0].objects
    fitting = SquareFitting(side=256)
    _, targets = fitting.vary(picture, objects, generator=torch.Generator())
    columns = [targets.boxes / 256, targets.labels[:, None], torch.ones(len(targets), 1)]
    table = torch.cat([each.double() for each in columns], dim=1)
    check(TOY, "region_boxes", table, golden(TOY)["region_boxes"], rtol=1e-7)


def test_grids_are_those_of_the_original() -> None:
    check(TOY, "grid_choices", grids(6), golden(TOY)["grid_choices"], rtol=0.0)


def test_the_learning_rate_follows_the_original() -> None:
    expected = golden(MISC)
    plan = Optimization(
        steps=20_000,
        batch_size=1,
        learning_rate=1e-5,
        schedule="cosine_after_warmup",
        warmup_steps=1000,
    )
    steps = expected["lr_steps"].tolist()
    rates = [plan.learning_rate * learning_rate_factor(step, plan) for step in steps]
    check(MISC, "lrs", rates, expected["lrs"], rtol=1e-9)


def test_weights_are_averaged_as_in_the_original() -> None:
    module = nn.Linear(1, 2, bias=False)
    module.weight.data.copy_(torch.tensor([[3.0], [5.0]]))
    start = StartWeights(module)
    module.weight.data.copy_(torch.tensor([[1.0], [2.0]]))
    with start.mixed_in(share_of_end=0.7):
        averaged = module.weight.detach()[:, 0].clone()
    check(MISC, "ensemble", averaged, golden(MISC)["ensemble"], rtol=1e-6)


def test_class_means_are_those_of_the_original_once_rounded_as_there() -> None:
    expected = golden(MISC)
    is_thing = torch.from_numpy(expected["macc_thing"] > 0)
    labels = torch.from_numpy(expected["macc_labels"])
    is_right = torch.from_numpy(expected["macc_correct"])
    groups = {"thing.": is_thing, "stuff.": ~is_thing, "": torch.ones_like(is_thing)}
    figures = {}
    for name, chosen in groups.items():
        for most in (1, 5):
            hits = is_right[chosen][:, :most].any(dim=1)
            shares = class_shares(hits, labels[chosen]).half()
            figures[f"rois.{name}macc{most}"] = mean_of(shares.tolist())
            exact = mean_class_accuracy(hits, labels[chosen])
            assert figures[f"rois.{name}macc{most}"] == pytest.approx(exact, abs=2e-4)
    wanted = json.loads(str(expected["macc"][0])) | json.loads(str(expected["macc"][1]))
    assert figures.keys() == wanted.keys()
    names = sorted(wanted)
    check(MISC, "macc", [figures[n] for n in names], [wanted[n] for n in names], rtol=1e-12)
