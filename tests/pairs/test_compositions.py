from random import Random

import pytest
import torch

from regionclip.pairs import compose, draw_groups, largest_in_tiles, tile_boxes
from regionclip.pairs.compositions import num_groups

TILES = tile_boxes(2) * 100


def test_groups_are_distinct_rectangles_of_several_tiles() -> None:
    for side in (2, 3, 4):
        groups = draw_groups(side, count=4, chance=Random(side))
        assert len(set(groups)) == 4
        for x0, y0, x1, y1 in groups:
            assert 0 <= x0 < x1 <= side
            assert 0 <= y0 < y1 <= side
            assert (x1 - x0) * (y1 - y0) > 1


def test_groups_are_drawn_by_the_chance_that_is_given() -> None:
    assert draw_groups(4, count=4, chance=Random(1)) == draw_groups(4, count=4, chance=Random(1))
    drawn = {draw_groups(4, count=1, chance=Random(seed)) for seed in range(40)}
    assert len(drawn) > 10


@pytest.mark.parametrize(("side", "number"), [(1, 0), (2, 5), (3, 27)])
def test_no_more_groups_are_drawn_than_there_are(side: int, number: int) -> None:
    assert num_groups(side) == number
    assert len(draw_groups(side, count=100, chance=Random(0))) == number


def test_a_group_encloses_its_tiles_and_knows_them() -> None:
    boxes = TILES.clone()
    boxes[0] = torch.tensor([10.0, 20, 30, 40])  # what stands for a tile may be smaller
    made = compose(boxes, [(0, 0, 2, 1), (0, 0, 1, 2)], side=2)
    assert made.boxes[:4].equal(boxes)
    assert made.boxes[4:].tolist() == [[10, 0, 100, 50], [0, 20, 50, 100]]
    assert made.contains[:4].equal(torch.eye(4, dtype=torch.bool))
    assert made.contains[4:].tolist() == [[True, True, False, False], [True, False, True, False]]


def test_a_picture_that_is_one_image_is_one_region() -> None:
    made = compose(
        torch.tensor([[0.0, 0, 9, 7]]), draw_groups(1, count=4, chance=Random(0)), side=1
    )
    assert made.boxes.tolist() == [[0, 0, 9, 7]]
    assert made.contains.tolist() == [[True]]


def test_the_largest_proposal_in_a_tile_stands_for_it() -> None:
    proposals = torch.tensor(
        [
            [60.0, 5, 70, 15],  # tile 1
            [55, 0, 95, 40],  # tile 1, larger
            [30, 10, 90, 20],  # two thirds in tile 1: cut off at its edge
            [0, 0, 100, 100],  # a quarter in each tile: in none
            [0, 30, 40, 90],  # two thirds in tile 2
        ]
    )
    found = largest_in_tiles(proposals, TILES)
    assert found.tolist() == [
        TILES[0].tolist(),
        [55, 0, 95, 40],
        [0, 50, 40, 90],
        TILES[3].tolist(),
    ]


def test_only_the_best_proposals_of_a_tile_are_looked_at() -> None:
    proposals = torch.tensor([[0.0, 0, 1, 1], [0, 0, 30, 30]])
    assert largest_in_tiles(proposals, TILES, candidates=1)[0].tolist() == [0, 0, 1, 1]
    assert largest_in_tiles(proposals, TILES, candidates=2)[0].tolist() == [0, 0, 30, 30]


def test_a_share_as_large_as_the_least_is_too_little() -> None:
    half = torch.tensor([[25.0, 10, 75, 20]])
    assert largest_in_tiles(half, TILES, min_share=0.5).equal(TILES)
    assert largest_in_tiles(half, TILES, min_share=0.49)[0].tolist() == [25, 10, 50, 20]


def test_without_proposals_tiles_stand_for_themselves() -> None:
    assert largest_in_tiles(torch.zeros(0, 4), TILES).equal(TILES)
    assert largest_in_tiles(torch.tensor([[5.0, 5, 5, 9]]), TILES).equal(TILES)
    assert len(largest_in_tiles(torch.zeros(0, 4), torch.zeros(0, 4))) == 0
