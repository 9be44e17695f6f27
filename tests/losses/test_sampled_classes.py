import math

import pytest
import torch

from regionclip.losses import draw_classes, sampled_class_loss


def drawn(present: list[int], num_classes: int, count: int, seed: int = 0) -> list[int]:
    occurs = torch.zeros(num_classes, dtype=torch.bool)
    occurs[present] = True
    generator = torch.Generator().manual_seed(seed)
    return draw_classes(occurs, count=count, generator=generator).tolist()


def test_all_that_occur_are_there_and_others_fill_up() -> None:
    for seed in range(5):
        own = drawn([7, 2], 50, 10, seed)
        assert {2, 7} <= set(own)
        assert len(set(own)) == 10
        assert own == sorted(own)
    assert drawn([7, 2], 50, 10, 0) != drawn([7, 2], 50, 10, 1)


def test_more_that_occur_leave_out_none_and_few_classes_are_all_taken() -> None:
    assert drawn([1, 3, 5], 9, 2) == [1, 3, 5]
    assert drawn([1], 4, 100) == [0, 1, 2, 3]
    assert len(drawn([], 9, 4)) == 4


def test_the_others_are_drawn_alike() -> None:
    counts = torch.zeros(10)
    for seed in range(900):
        counts[drawn([0], 10, 4, seed)] += 1
    assert counts[0] == 900
    assert (counts[1:] - 300).abs().max() < 60


def test_one_region_and_two_classes_worked_out_by_hand() -> None:
    logits, sampled = torch.tensor([[2.0, -1.0]]), torch.tensor([4, 9])
    loss = sampled_class_loss(logits, torch.tensor([9]), sampled)
    # class 4 is wrong with logit 2, class 9 right with logit -1
    assert loss.total.item() == pytest.approx(math.log1p(math.exp(2)) + math.log1p(math.exp(1)))
    assert loss.count.item() == 1


def test_no_region_costs_nothing_and_has_a_gradient() -> None:
    logits = torch.zeros(0, 2, requires_grad=True)
    loss = sampled_class_loss(logits, torch.zeros(0, dtype=torch.int64), torch.tensor([0, 1]))
    loss.total.backward()
    assert loss.mean().item() == 0


def test_others_are_drawn_as_often_as_their_weights_say() -> None:
    occurs = torch.tensor([False, True, False, False, False])
    weights = torch.tensor([9.0, 0.0, 1.0, 0.0, 0.0])
    generator = torch.Generator().manual_seed(0)
    drawn = [
        draw_classes(occurs, count=2, generator=generator, weights=weights).tolist()
        for _ in range(200)
    ]
    # what occurs is there whatever its weight, and what weighs nothing never
    assert {tuple(each) for each in drawn} == {(0, 1), (1, 2)}
    assert 160 < drawn.count([0, 1]) < 197
    all_of_them = draw_classes(occurs, count=5, generator=generator, weights=weights)
    assert all_of_them.tolist() == [0, 1, 2]
    assert draw_classes(occurs, count=1, generator=generator, weights=weights).tolist() == [1]
