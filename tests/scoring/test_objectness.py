import jaxtyping
import pytest
import torch
from torch import Tensor

from regionclip.scoring.objectness import ObjectnessFusion, fuse_objectness, score_bound

FUSIONS: tuple[ObjectnessFusion, ...] = ("none", "geometric", "product", "raw")
LOGITS = torch.tensor([4.0, 0.25, 0.0, -3.0])


def random_scores(num_regions: int = 4, num_classes: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(num_regions, num_classes, generator=generator)


def test_fusion_matches_cases_worked_out_by_hand() -> None:
    scores = torch.tensor([[0.25, 1.0], [0.04, 0.36], [0.5, 0.5], [0.5, 0.5]])
    raw = fuse_objectness(scores, LOGITS, "raw")
    expected = torch.tensor([[1.0, 2.0], [0.1, 0.3], [0, 0], [0, 0]])
    torch.testing.assert_close(raw, expected)
    # A logit of 0 is an objectness of 1/2.
    geometric = fuse_objectness(torch.tensor([[0.5, 0.02]]), torch.zeros(1), "geometric")
    torch.testing.assert_close(geometric, torch.tensor([[0.5, 0.1]]))
    product = fuse_objectness(torch.tensor([[0.5, 0.02]]), torch.zeros(1), "product")
    torch.testing.assert_close(product, torch.tensor([[0.25, 0.01]]))


def test_no_fusion_returns_class_scores_and_needs_no_objectness() -> None:
    scores = random_scores()
    assert fuse_objectness(scores, LOGITS, "none") is scores
    assert fuse_objectness(scores, None, "none") is scores


@pytest.mark.parametrize("fusion", ["geometric", "product"])
def test_scores_of_probabilities_stay_in_0_to_1(fusion: ObjectnessFusion) -> None:
    fused = fuse_objectness(random_scores(), torch.tensor([100.0, 20, -20, -100]), fusion)
    assert fused.min() >= 0
    assert fused.max() <= 1


@pytest.mark.parametrize("fusion", ["geometric", "product", "raw"])
def test_fusion_keeps_the_order_of_a_regions_classes(fusion: ObjectnessFusion) -> None:
    scores = random_scores()
    fused = fuse_objectness(scores, torch.tensor([4.0, 2, 1, 0.5]), fusion)
    assert fused.argsort(dim=1).equal(scores.argsort(dim=1))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_no_score_exceeds_the_bound_and_a_certain_class_reaches_it(
    fusion: ObjectnessFusion,
) -> None:
    bound = score_bound(LOGITS, fusion)
    assert (fuse_objectness(random_scores(), LOGITS, fusion) <= bound[:, None]).all()
    torch.testing.assert_close(fuse_objectness(torch.ones(4, 1), LOGITS, fusion)[:, 0], bound)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_bound_does_not_grow_as_objectness_falls(fusion: ObjectnessFusion) -> None:
    assert (score_bound(LOGITS, fusion).diff() <= 0).all()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_no_regions_fuse_to_none(fusion: ObjectnessFusion) -> None:
    assert fuse_objectness(torch.zeros(0, 5), torch.zeros(0), fusion).shape == (0, 5)
    assert score_bound(torch.zeros(0), fusion).shape == (0,)


def test_fusing_without_objectness_is_refused() -> None:
    with pytest.raises(ValueError, match="fusion 'raw' needs proposals with an objectness"):
        fuse_objectness(random_scores(), None, "raw")


def test_an_unknown_fusion_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # Only in tests are types checked before the function checks its values itself.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    message = "unknown objectness fusion 'sum'; expected one of none, geometric, product, raw"
    with pytest.raises(ValueError, match=message):
        fuse_objectness(random_scores(), LOGITS, "sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        score_bound(LOGITS, "sum")  # type: ignore[arg-type]
