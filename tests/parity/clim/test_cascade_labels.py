"""What captions and tags cost at each stage, against the numbers of Detic with a cascade.

The original drew each stage's two groups of tiles by Python's random numbers, from a place in their
order that is not known. So the groups are looked for among all pairs: those of captions by the loss
of captions, those of tags by the loss of tags. Which groups of tags a stage draws also decides what
the next one sees, and only one pair of each stage leads to all three losses.
"""

from functools import cache
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from regionclip.losses import caption_region_loss, tag_region_loss
from regionclip.methods.detic.cascade_model import move_boxes
from regionclip.methods.detic.cascade_training_config import lvis_captions, lvis_tags
from regionclip.pairs import compose, largest_in_tiles
from regionclip.pairs.compositions import TileGroup

from .cascade_golden import CASE, cascade, class_rows
from .test_cascade import SIDE, proposals, view
from .training_numbers import check, golden

pytestmark = pytest.mark.slow
TILES = torch.tensor(
    [[0.0, 0, 128, 128], [128, 0, 256, 128], [0, 128, 128, 256], [128, 128, 256, 256]]
)
TAGS = ((2, 5), (100,), (7,), (1202,))
GROUPS: tuple[TileGroup, ...] = (
    (0, 0, 2, 1),
    (0, 1, 2, 2),
    (0, 0, 1, 2),
    (1, 0, 2, 2),
    (0, 0, 2, 2),
)
"""All rectangles of several of 2 by 2 tiles."""
PAIRS = list(combinations(GROUPS, 2))


@cache
@torch.no_grad()
def caption_vectors() -> Tensor:
    text = cascade().encoder
    captions = [f"a photo of a {noun}" for noun in ("cat", "dog", "car", "tree")]
    return text.encode_tokens(text.tokenize(captions))


@torch.no_grad()
def caption_loss(stage: int, groups: tuple[TileGroup, ...]) -> Tensor:
    regions = compose(TILES, groups, side=2)
    answers = cascade().answer(stage, view().pyramids, [regions.boxes])
    return caption_region_loss(
        answers.embeddings, caption_vectors(), regions.contains, bias=0.0, options=lvis_captions()
    ).mean()


def tagged(tile_boxes: Tensor, groups: tuple[TileGroup, ...]) -> tuple[Tensor, Tensor]:
    """Boxes of regions, and the classes that are named of each."""
    regions = compose(tile_boxes, groups, side=2)
    named = torch.zeros(len(TILES), len(class_rows()), dtype=torch.bool)
    for row, tags in zip(named, TAGS, strict=True):
        row[list(tags)] = True
    return regions.boxes, (regions.contains[:, :, None] & named[None]).any(dim=1)


@torch.no_grad()
def tag_losses(stage: int, proposals: Tensor) -> tuple[np.ndarray, list[Tensor]]:
    """For each pair of groups, what tags cost, and where the stage moves the regions to."""
    tile_boxes = largest_in_tiles(proposals, TILES)
    losses, moved = [], []
    for pair in PAIRS:
        boxes, is_named = tagged(tile_boxes, pair)
        answers = cascade().answer(stage, view().pyramids, [boxes])
        loss = tag_region_loss(
            answers.embeddings, class_rows(), is_named, bias=0.0, options=lvis_tags()
        )
        losses.append(float(loss.mean()))
        moved += move_boxes(stage, [boxes], answers.deltas, [(SIDE, SIDE)])
    return np.array(losses), moved


def test_captions_cost_what_they_cost_the_original_at_every_stage() -> None:
    for stage in range(3):
        losses = np.array([float(caption_loss(stage, pair)) for pair in PAIRS])
        wanted = golden(CASE)[f"ovd_{stage}.loss_caption"]
        found = losses[np.abs(losses - wanted).argmin()]
        check(CASE, f"ovd_{stage}.loss_caption", found, wanted, rtol=1e-5)


def test_every_stage_takes_tags_of_what_the_stage_before_looked_at_and_moved() -> None:
    boxes = proposals().boxes
    for stage in range(3):
        losses, moved = tag_losses(stage, boxes)
        wanted = golden(CASE)[f"ovd_{stage}.loss_tags"]
        distance = np.abs(losses - wanted)
        best = int(distance.argmin())
        check(CASE, f"ovd_{stage}.loss_tags", losses[best], wanted, rtol=1e-5)
        # another pair would be told apart
        assert np.sort(distance)[1] > 1e-3 * wanted
        boxes = moved[best]
