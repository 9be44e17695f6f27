import pytest
import torch

from regionclip.pairs import match_regions_to_concepts

POOL = 3 * torch.eye(3)


def test_a_region_gets_the_concept_nearest_to_it_and_the_teachers_opinion() -> None:
    features = torch.tensor([[0.0, 5.0, 0.0], [4.0, 3.0, 0.0]])
    pairs = match_regions_to_concepts(features, POOL, temperature=0.2)
    assert pairs.kept.tolist() == [True, True]
    assert pairs.targets.tolist() == [1, 0]
    # cosines 0.8, 0.6 and 0 of the second region, divided by 0.2
    expected = torch.tensor([4.0, 3.0, 0.0]).exp()
    torch.testing.assert_close(pairs.scores[1], expected / expected.sum())


def test_regions_of_which_the_teacher_is_unsure_are_left_out() -> None:
    features = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    pairs = match_regions_to_concepts(features, POOL, min_score=0.34)
    assert pairs.kept.tolist() == [False, True]
    assert pairs.targets.tolist() == [2]
    assert pairs.scores.shape == (1, 3)


def test_a_score_must_exceed_the_threshold() -> None:
    pairs = match_regions_to_concepts(torch.ones(1, 2), torch.eye(2), min_score=0.5)
    assert pairs.kept.tolist() == [False]


def test_a_region_does_not_depend_on_the_others() -> None:
    features = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    together = match_regions_to_concepts(features, POOL, temperature=1.0, min_score=0.5)
    alone = [
        bool(match_regions_to_concepts(each[None], POOL, temperature=1.0, min_score=0.5).kept)
        for each in features
    ]
    assert together.kept.tolist() == alone


def test_no_regions_give_no_pairs() -> None:
    pairs = match_regions_to_concepts(torch.zeros(0, 3), POOL)
    assert pairs.kept.shape == (0,)
    assert pairs.targets.shape == (0,)
    assert pairs.scores.shape == (0, 3)


def test_an_empty_pool_is_refused() -> None:
    with pytest.raises(ValueError, match="concept pool is empty"):
        match_regions_to_concepts(torch.ones(1, 3), torch.zeros(0, 3))
