"""Groups of tiles, what captions and tags cost, and the queue, against CLIM's Detic on OV-COCO."""

import json
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from regionclip.encoders.text import MissingTextTower
from regionclip.losses import CaptionLossOptions, TagLossOptions
from regionclip.pairs import tile_boxes
from regionclip.structures import Proposals, Tiles
from regionclip.training.image_labels import (
    CaptionTeacher,
    EncodedCaptions,
    TagTeacher,
    TileRegions,
)

from .training_numbers import check, embedding_file, golden, seed

CASE = "detic_clim_c4"
BIAS = -20.0
RTOL = 1e-5


def numbers(name: str) -> Tensor:
    return torch.from_numpy(golden(CASE)[name])


def meta(name: str) -> Any:
    return json.loads(str(golden(CASE)[name]))


def teacher() -> CaptionTeacher:
    return CaptionTeacher(MissingTextTower("ViT-B-32"), CaptionLossOptions(), width=512)


def tiles(ids: Sequence[int], tags: Sequence[Sequence[int]]) -> Tiles:
    side = round(len(ids) ** 0.5)
    return Tiles(
        boxes=tile_boxes(side) * int(golden(CASE)["size"]),
        side=side,
        image_ids=torch.tensor(ids),
        captions=("",) * len(ids),
        tags=tuple(map(tuple, tags)),
    )


def pictures() -> tuple[Tiles, Tiles]:
    """A mosaic of four images, and an image."""
    mosaic, single = meta("detic_caption_meta")["tags"]
    return tiles((101, 102, 103, 104), mosaic), tiles((201,), single)


def chances() -> list[Random]:
    return [Random(seed()), Random(seed())]


def check_members(
    name: str, regions: TileRegions, ids: Sequence[int], expected: Sequence[Sequence[Any]]
) -> None:
    """Compare the images that regions are made of, in order; ``expected`` is a list per picture."""
    wanted = [each if isinstance(each, list) else [each] for own in expected for each in own]
    found = [[own for own, of in zip(ids, row, strict=True) if of] for row in regions.contains]
    check(CASE, name, filled_up(found), filled_up(wanted), rtol=0.0)


def check_tags(name: str, regions: TileRegions, expected: Sequence[Sequence[Any]]) -> None:
    """Compare the classes that regions show: those of all their tiles."""
    own = [set(tags) for each in pictures() for tags in each.tags]
    wanted = [sorted(each) for picture in expected for each in picture]
    found = [
        sorted(set().union(*(tags for tags, of in zip(own, row, strict=True) if of)))
        for row in regions.contains
    ]
    check(CASE, name, filled_up(found), filled_up(wanted), rtol=0.0)


def filled_up(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Rows of 16, as long as the longest can be; -1 where there is nothing."""
    return np.array([[*row, *[-1] * (16 - len(row))] for row in rows])


def counts_of(regions: TileRegions, name: str) -> tuple[list[int], np.ndarray]:
    """Regions per picture, ours and the original's."""
    return [len(each) for each in regions.boxes], golden(CASE)[name]


def caption_regions() -> TileRegions:
    return teacher().regions(pictures(), chances(), device=torch.device("cpu"))


def test_groups_of_tiles_are_those_of_the_original() -> None:
    regions = caption_regions()
    check(CASE, "detic_caption_boxes", torch.cat(regions.boxes), numbers("detic_caption_boxes"))
    check(CASE, "detic_caption_split", *counts_of(regions, "detic_caption_split"), rtol=0.0)
    expected = meta("detic_caption_meta")["image_ids"]
    check_members("detic_caption_meta[image_ids]", regions, (101, 102, 103, 104, 201), expected)


def test_captions_cost_what_they_cost_the_original_and_wait_for_the_next_batch() -> None:
    own = teacher()
    vectors = F.normalize(numbers("cap_features"), dim=1)
    ids = torch.tensor([101, 102, 103, 104, 201])
    captions = EncodedCaptions(vectors, ids, ids)
    embeddings = numbers("detic_caption_region_embeddings")
    loss = own.loss(embeddings, caption_regions(), captions, bias=BIAS)
    check(CASE, "first_loss_caption", loss.mean(), golden(CASE)["first_loss_caption"], rtol=RTOL)
    own.remember(captions)
    queue = torch.cat([own.queue.vectors, own.queue.image_ids[:, None].expand(-1, 16)], dim=1)
    check(CASE, "queue_after", queue, numbers("queue_after"), rtol=1e-6)
    # the first mosaic once more, three of its images under other numbers
    second = tiles((301, 302, 303, 101), ((),) * 4)
    regions = own.regions([second], chances()[:1], device=torch.device("cpu"))
    check(CASE, "second_boxes", regions.boxes[0], numbers("second_boxes"))
    check_members("second_image_ids", regions, (301, 302, 303, 101), meta("second_image_ids"))
    captions = EncodedCaptions(vectors[:4], second.image_ids, second.image_ids)
    # the original divides by 4 for any number of pictures, and here is one
    own.options = replace(own.options, regions_per_picture=4.0)
    loss = own.loss(numbers("second_region_embeddings"), regions, captions, bias=BIAS)
    check(CASE, "second_loss_caption", loss.mean(), golden(CASE)["second_loss_caption"], rtol=RTOL)
    own.remember(captions)
    after = own.queue.image_ids[:, None].expand(-1, 16)
    check(CASE, "queue_after2_ids", after, numbers("queue_after2_ids"))


def test_tags_cost_what_they_cost_the_original() -> None:
    rows = np.load(embedding_file("coco_clip_hand_craft.npy")).astype(np.float32)
    own = TagTeacher(torch.from_numpy(rows), TagLossOptions())
    found = numbers("rpn_top")[:, :4]
    # both images: the largest proposal of the second is the image, as the mosaic's is
    proposals = [Proposals(found), Proposals(found)]
    regions = own.regions(pictures(), proposals, chances())
    check(CASE, "detic_tags_boxes", torch.cat(regions.boxes), numbers("detic_tags_boxes"))
    check(CASE, "detic_tags_split", *counts_of(regions, "detic_tags_split"), rtol=0.0)
    expected = meta("detic_tags_meta")
    ids = (101, 102, 103, 104, 201)
    check_members("detic_tags_meta[image_ids]", regions, ids, expected["image_ids"])
    check_tags("detic_tags_meta[tags]", regions, expected["tags"])
    embeddings = numbers("detic_tags_region_embeddings")
    loss = own.loss(embeddings, regions, pictures(), bias=BIAS)
    check(CASE, "first_loss_tags", loss.mean(), golden(CASE)["first_loss_tags"], rtol=RTOL)
