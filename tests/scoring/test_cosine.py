import pytest
import torch
from torch import Tensor

from regionclip.scoring.cosine import class_logits, class_scores


def random_rows(count: int, width: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_class_logits_match_a_case_worked_out_by_hand() -> None:
    # Angles of 0, 90 and 45 degrees.
    logits = class_logits(
        torch.tensor([[3.0, 0]]), torch.tensor([[0.5, 0], [0, 7], [2, 2]]), temperature=0.5
    )
    torch.testing.assert_close(logits, torch.tensor([[2.0, 0, 2**0.5]]))


def test_class_logits_use_clips_scale_of_100_by_default() -> None:
    rows = random_rows(4)
    torch.testing.assert_close(class_logits(rows, rows).diagonal(), torch.full((4,), 100.0))


def test_class_logits_ignore_the_length_of_features_and_embeddings() -> None:
    features, embeddings = random_rows(5), random_rows(3, seed=1)
    lengths = torch.tensor([[0.01], [1], [100], [3], [0.5]])
    expected = class_logits(features, embeddings)
    torch.testing.assert_close(class_logits(features * lengths, embeddings * 9), expected)


def test_a_zero_background_has_the_logit_zero_and_is_the_last_class() -> None:
    features, embeddings = random_rows(5), random_rows(3, seed=1)
    logits = class_logits(features, embeddings, background_embedding=torch.zeros(16))
    assert logits.shape == (5, 4)
    assert logits[:, 3].eq(0).all()
    torch.testing.assert_close(logits[:, :3], class_logits(features, embeddings))


def test_the_length_of_the_background_counts() -> None:
    logits = class_logits(
        torch.tensor([[3.0, 0]]),
        torch.tensor([[1.0, 0]]),
        temperature=1.0,
        background_embedding=torch.tensor([0.25, 0]),
    )
    torch.testing.assert_close(logits, torch.tensor([[1.0, 0.25]]))


def test_a_zero_feature_is_like_nothing() -> None:
    assert class_logits(torch.zeros(2, 16), random_rows(3)).eq(0).all()


def test_half_precision_and_autocast_score_in_float32() -> None:
    features, embeddings = random_rows(50).bfloat16(), random_rows(20, seed=1).bfloat16()
    expected = class_logits(features.float(), embeddings.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = class_logits(features, embeddings)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected)


def test_class_scores_of_a_row_sum_to_one_with_the_background() -> None:
    features, embeddings = random_rows(5), random_rows(3, seed=1)
    scores = class_scores(features, embeddings, background_embedding=torch.zeros(16))
    assert scores.shape == (5, 4)
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(5))
    # Against a background of logit 0, one class of logit z scores e^z / (e^z + 1).
    one = class_scores(
        features, embeddings[:1], temperature=1.0, background_embedding=torch.zeros(16)
    )
    logit = class_logits(features, embeddings[:1], temperature=1.0)
    torch.testing.assert_close(one[:, :1], logit.sigmoid())


def test_the_order_of_the_classes_is_the_order_of_the_columns() -> None:
    features, embeddings = random_rows(5), random_rows(4, seed=1)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(
        class_scores(features, embeddings[order]), class_scores(features, embeddings)[:, order]
    )


@pytest.mark.parametrize(("num_regions", "num_classes"), [(0, 3), (2, 0), (0, 0)])
def test_no_regions_or_no_classes_give_empty_scores(num_regions: int, num_classes: int) -> None:
    scores = class_scores(random_rows(num_regions), random_rows(num_classes))
    assert scores.shape == (num_regions, num_classes)


@pytest.mark.parametrize("temperature", [0.0, -0.01, float("nan")])
@pytest.mark.parametrize("function", [class_logits, class_scores])
def test_a_temperature_that_is_not_positive_is_refused(function, temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be positive, got"):
        function(random_rows(2), random_rows(3), temperature=temperature)
