import math

import pytest
import torch

from regionclip.losses import caption_contrastive_loss, image_text_loss

NOTHING = torch.zeros(2, 2, dtype=torch.bool)
PAIRS = torch.eye(2, dtype=torch.bool)


def loss_of(
    images: torch.Tensor,
    texts: torch.Tensor,
    is_positive: torch.Tensor = PAIRS,
    is_ignored: torch.Tensor = NOTHING,
    scale: float = 1.0,
) -> float:
    loss = caption_contrastive_loss(
        images, texts, is_positive=is_positive, is_ignored=is_ignored, scale=torch.tensor(scale)
    )
    return loss.item()


def test_two_perfect_pairs_worked_out_by_hand() -> None:
    # logits [[2, 0], [0, 2]]: every row and column costs log(1 + exp(-2))
    loss = loss_of(torch.eye(2), torch.eye(2), scale=2.0)
    assert loss == pytest.approx(math.log1p(math.exp(-2)))


def test_lengths_do_not_matter() -> None:
    images, texts = torch.randn(2, 5), torch.randn(2, 5)
    assert loss_of(7 * images, 0.1 * texts) == pytest.approx(loss_of(images, texts), rel=1e-5)


def test_pairs_may_be_reordered_together() -> None:
    images, texts = torch.randn(2, 5), torch.randn(2, 5)
    assert loss_of(images.flip(0), texts.flip(0)) == pytest.approx(loss_of(images, texts))


def test_repeated_captions_are_all_positive() -> None:
    # both captions are alike and both belong to both images: nothing is left to tell apart
    same = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    everything = torch.ones(2, 2, dtype=torch.bool)
    assert loss_of(same, same, everything) == pytest.approx(math.log(2))


def test_an_ignored_pair_neither_pulls_nor_pushes() -> None:
    images = torch.tensor([[1.0, 0.0], [0.8, 0.6]], requires_grad=True)
    texts = images.detach().clone()
    loss = caption_contrastive_loss(
        images, texts, is_positive=PAIRS, is_ignored=~PAIRS, scale=torch.tensor(10.0)
    )
    loss.backward()
    assert loss.item() == 0.0
    assert images.grad is not None
    assert images.grad.abs().max() == 0


def test_an_empty_batch_costs_nothing_and_has_a_gradient() -> None:
    images = torch.zeros(0, 4, requires_grad=True)
    empty = torch.zeros(0, 0, dtype=torch.bool)
    loss = caption_contrastive_loss(
        images, torch.zeros(0, 4), is_positive=empty, is_ignored=empty, scale=torch.tensor(1.0)
    )
    loss.backward()
    assert loss.item() == 0.0


def test_pairs_with_different_captions_cost_what_clips_loss_says() -> None:
    generator = torch.Generator().manual_seed(2)
    images, texts = torch.randn(2, 3, 5, generator=generator)
    logits = torch.nn.functional.cosine_similarity(images[:, None], texts[None], dim=2) / 0.5
    rows = torch.arange(3)
    entropy = torch.nn.functional.cross_entropy
    expected = (entropy(logits, rows) + entropy(logits.T, rows)) / 2
    loss = image_text_loss(images, texts, torch.tensor([7, -3, 5]), temperature=0.5)
    torch.testing.assert_close(loss.mean(), expected)
    assert loss.count.item() == 3


def test_images_with_the_same_caption_belong_to_both() -> None:
    same = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    loss = image_text_loss(same, same, torch.tensor([4, 4]), temperature=1.0)
    assert loss.mean().item() == pytest.approx(math.log(2))


def test_no_pairs_cost_nothing() -> None:
    nothing = torch.zeros(0, 3, requires_grad=True)
    ids = torch.zeros(0, dtype=torch.int64)
    loss = image_text_loss(nothing, torch.zeros(0, 3), ids, temperature=1.0)
    assert loss.mean().item() == 0
    loss.total.backward()
