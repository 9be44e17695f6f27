import pytest
import torch
from torch import Tensor

from regionclip.scoring.objectness import ObjectnessFusion
from regionclip.scoring.regions import (
    REGIONS_PER_ROUND,
    ScoredRegions,
    score_classes,
    score_regions,
)
from regionclip.structures import Proposals

NUM_REGIONS = 3 * REGIONS_PER_ROUND


def proposals(count: int = NUM_REGIONS) -> Proposals:
    boxes = torch.arange(count, dtype=torch.float32)[:, None].expand(-1, 4)
    return Proposals(boxes, torch.linspace(4.0, -4.0, count))


class Embedder:
    """Vectors that depend on the box alone; counts what it was asked for."""

    def __init__(self) -> None:
        self.rows = torch.randn(NUM_REGIONS, 8, generator=torch.Generator().manual_seed(0))
        self.num_embedded = 0

    def __call__(self, boxes: Tensor) -> Tensor:
        self.num_embedded += len(boxes)
        return self.rows[boxes[:, 0].long()]


CLASSES = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))


def test_scores_of_a_row_and_the_background_sum_to_one() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    classes = torch.tensor([[3.0, 0.0]])
    scores = score_classes(features, classes, temperature=1.0)
    # cosines 1 and 0 against a background of 0
    expected = torch.tensor([[torch.e / (torch.e + 1)], [0.5]])
    torch.testing.assert_close(scores, expected)


@pytest.mark.parametrize("fusion", ["geometric", "raw"])
def test_stopping_early_leaves_the_best_unchanged(fusion: ObjectnessFusion) -> None:
    everything = score_regions(proposals(), Embedder(), CLASSES, fusion=fusion, temperature=0.1)
    embedder = Embedder()

    def are_ten_above(scored: ScoredRegions, bound: float) -> bool:
        return int((scored.scores > bound).sum()) >= 10

    stopped = score_regions(
        proposals(), embedder, CLASSES, fusion=fusion, temperature=0.1, is_settled=are_ten_above
    )
    assert embedder.num_embedded < len(everything.scores)
    best, stopped_best = (each.scores.flatten().topk(10).values for each in (everything, stopped))
    torch.testing.assert_close(stopped_best, best, rtol=0, atol=0)


def test_regions_that_cannot_reach_the_threshold_are_never_embedded() -> None:
    embedder = Embedder()
    scored = score_regions(proposals(), embedder, CLASSES, fusion="raw", min_score=0.0)
    assert embedder.num_embedded == len(scored.scores) == NUM_REGIONS // 2


@pytest.mark.parametrize("fusion", ["none", "geometric", "raw"])
def test_no_regions_give_no_rows(fusion: ObjectnessFusion) -> None:
    scored = score_regions(proposals(0), Embedder(), CLASSES, fusion=fusion)
    assert scored.scores.shape == (0, 5)
    assert scored.features.shape == (0, 8)


def test_boxes_without_objectness_take_class_scores() -> None:
    given = Proposals(proposals(4).boxes)
    scored = score_regions(given, Embedder(), CLASSES, fusion="geometric")
    torch.testing.assert_close(scored.scores, scored.class_scores)
