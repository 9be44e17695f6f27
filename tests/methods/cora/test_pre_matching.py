from typing import SupportsIndex

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from regionclip.methods.cora.pre_matching import (
    anchor_probabilities,
    match_anchors,
    novel_factors,
)

NAMES = ("cat", "unicycle", "dog")


def test_an_anchor_looks_for_the_class_nearest_to_it() -> None:
    features = torch.tensor([[[3.0, 0.0], [0.0, 0.1]], [[1.0, 0.9], [-1.0, 0.1]]])
    classes = torch.tensor([[5.0, 0.0], [0.0, 7.0]])
    assert match_anchors(features, classes).tolist() == [[0, 1], [0, 1]]


def test_a_factor_turns_a_close_decision() -> None:
    # similarities 0.6 and 0.59: at temperature 0.01 a ratio of e, turned by 8 and not by 2
    classes = torch.eye(3)[:2]
    feature = torch.tensor([[[0.6, 0.59, (1 - 0.6**2 - 0.59**2) ** 0.5]]])
    for factor, winner in ((1.0, 0), (2.0, 0), (8.0, 1)):
        factors = torch.tensor([1.0, factor])
        assert match_anchors(feature, classes, class_factors=factors).item() == winner
    scores = anchor_probabilities(feature, classes, class_factors=torch.tensor([1.0, 8.0]))
    first = 1 / (1 + torch.exp(torch.tensor(-1.0)))
    expected = torch.stack([first, 8 * (1 - first)])
    torch.testing.assert_close(scores[0, 0], expected, rtol=1e-4, atol=0.0)


def test_a_class_of_zeros_is_similar_to_nothing_and_beats_what_points_away() -> None:
    feature = torch.tensor([[[1.0, 0.0]]])
    away, zeros, towards = torch.tensor([[-1.0, 0.1], [0.0, 0.0], [0.1, 1.0]])
    assert match_anchors(feature, torch.stack([away, zeros])).item() == 1
    assert match_anchors(feature, torch.stack([towards, zeros])).item() == 0


def test_the_background_takes_what_points_away_from_every_class() -> None:
    score = anchor_probabilities(torch.tensor([[[-1.0, 0.0]]]), torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(score, torch.full((1, 1, 1), 0.5))


def test_the_order_of_classes_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(2, 30, 8, generator=generator), dim=2)
    classes = torch.randn(11, 8, generator=generator)
    order = torch.randperm(11, generator=generator)
    found = match_anchors(features, classes[order])
    assert torch.equal(order[found], match_anchors(features, classes))


def test_one_class_is_every_anchors_and_no_class_is_refused() -> None:
    assert match_anchors(torch.ones(1, 4, 3), torch.ones(1, 3)).tolist() == [[0] * 4]
    assert match_anchors(torch.ones(2, 0, 3), torch.ones(1, 3)).shape == (2, 0)
    with pytest.raises(ValueError, match="at least one class to look for"):
        match_anchors(torch.ones(1, 4, 3), torch.ones(0, 3))


def test_novel_classes_are_those_without_boxes_or_the_users_own() -> None:
    assert novel_factors(NAMES, factor=8.0, base={"cat", "dog"}).tolist() == [1, 8, 1]
    assert novel_factors(NAMES, factor=8.0).tolist() == [8, 8, 8]
    # the user's own list takes the place of the base classes
    assert novel_factors(NAMES, factor=4.0, base={"cat"}, novel=["dog", "yak"]).tolist() == [
        1,
        1,
        4,
    ]
    assert novel_factors(NAMES, factor=4.0, novel=[0, "dog"]).tolist() == [4, 1, 4]
    assert novel_factors(NAMES, factor=4.0, novel=[]).tolist() == [1, 1, 1]
    assert novel_factors((), factor=4.0).shape == (0,)


def test_names_are_compared_as_data_sets_write_them() -> None:
    names = ("Traffic_Light", "dining table", "unicycle")
    base = {"traffic light", "Dining_Table"}
    assert novel_factors(names, factor=8.0, base=base).tolist() == [1, 1, 8]
    assert novel_factors(names, factor=8.0, novel=["traffic light"]).tolist() == [8, 1, 1]


def test_places_may_be_numbers_of_numpy() -> None:
    novel = list(np.array([0, 2]))
    assert novel_factors(NAMES, factor=4.0, novel=novel).tolist() == [4, 1, 4]


@pytest.mark.parametrize("place", [3, -1, np.int64(3)])
def test_a_novel_class_that_is_not_there_is_refused(place: SupportsIndex) -> None:
    with pytest.raises(ValueError, match=rf"novel class {place} is not among 3 classes"):
        novel_factors(NAMES, factor=8.0, novel=[place])
