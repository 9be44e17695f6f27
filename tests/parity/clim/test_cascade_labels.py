"""What captions and tags cost at each stage, against the numbers of Detic with a cascade.

The original drew each stage's two groups of tiles by Python's random numbers, from a place in their
order that is not known. So the groups are looked for, among all pairs, by the loss of captions. The
loss of tags, with the same groups, is the original's at the first stage. At the others it is not:
how the original moves proposals there, or which groups it draws, is not known.
"""

from functools import cache
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from regionclip.losses import caption_region_loss, tag_region_loss
from regionclip.methods.detic.cascade_training_config import lvis_captions, lvis_tags
from regionclip.pairs import compose, largest_in_tiles
from regionclip.pairs.compositions import TileGroup

from .cascade_golden import CASE, cascade, class_rows
from .test_cascade import proposals, view
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


@torch.no_grad()
def tag_loss(stage: int, boxes: Tensor, groups: tuple[TileGroup, ...]) -> Tensor:
    regions = compose(largest_in_tiles(boxes, TILES), groups, side=2)
    named = torch.zeros(len(TILES), len(class_rows()), dtype=torch.bool)
    for row, tags in zip(named, TAGS, strict=True):
        row[list(tags)] = True
    answers = cascade().answer(stage, view().pyramids, [regions.boxes])
    is_named = (regions.contains[:, :, None] & named[None]).any(dim=1)
    return tag_region_loss(
        answers.embeddings, class_rows(), is_named, bias=0.0, options=lvis_tags()
    ).mean()


@torch.no_grad()
def test_every_stage_sees_tiles_as_they_are_and_the_first_proposals_as_they_are() -> None:
    expected, pairs = golden(CASE), list(combinations(GROUPS, 2))
    for stage in range(3):
        losses = np.array([float(caption_loss(stage, pair)) for pair in pairs])
        wanted = expected[f"ovd_{stage}.loss_caption"]
        best = int(np.abs(losses - wanted).argmin())
        check(CASE, f"ovd_{stage}.loss_caption", losses[best], wanted, rtol=1e-5)
        if stage == 0:
            found = tag_loss(stage, proposals().boxes, pairs[best])
            check(CASE, "ovd_0.loss_tags", found, expected["ovd_0.loss_tags"], rtol=1e-4)
