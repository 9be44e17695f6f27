import random

import torch

from regionclip.methods.cora.class_split import (
    halved_embeddings,
    is_split_step,
    uniform_numbers_of,
)


def test_a_fifth_of_the_steps_is_split_and_always_the_same() -> None:
    state = random.getstate()
    steps = [step for step in range(2000) if is_split_step(step, share=0.2)]
    assert random.getstate() == state
    assert 300 < len(steps) < 500
    assert steps == [step for step in range(2000) if is_split_step(step, share=0.2)]
    assert not any(is_split_step(step, share=0.0) for step in range(100))
    assert all(is_split_step(step, share=1.0) for step in range(100))


def test_a_period_repeats_the_steps() -> None:
    first = [is_split_step(step, share=0.2, period=50) for step in range(50)]
    again = [is_split_step(step, share=0.2, period=50) for step in range(50, 100)]
    assert first == again == [is_split_step(step, share=0.2) for step in range(50)]
    assert again != [is_split_step(step, share=0.2) for step in range(50, 100)]


def test_every_class_is_in_one_half() -> None:
    rows = torch.tensor([[1.0, 2], [3, 4], [5, 6]])
    first, second = halved_embeddings(rows, torch.tensor([0.5, 0.51, 0.0]))
    assert first.tolist() == [[1, 2], [0, 0], [5, 6]]
    assert second.tolist() == [[0, 0], [3, 4], [0, 0]]
    assert torch.equal(first + second, rows)


def test_halves_depend_on_seed_and_step_alone() -> None:
    numbers = uniform_numbers_of(3)
    assert torch.equal(numbers(7, 20), uniform_numbers_of(3)(7, 20))
    assert not torch.equal(numbers(7, 20), numbers(8, 20))
    assert not torch.equal(numbers(7, 20), uniform_numbers_of(4)(7, 20))
    drawn = numbers(0, 1000)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert 400 < int((drawn > 0.5).sum()) < 600
    assert numbers(0, 0).shape == (0,)
