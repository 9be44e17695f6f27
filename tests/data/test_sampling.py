from itertools import islice

import pytest
import torch

from regionclip.data.sampling import batches, epochs, mixed_seed, repeat_factors
from tests.data.made import made_dataset


def test_each_epoch_shows_each_image_once_in_a_new_order() -> None:
    stream = epochs(5, seed=0)
    first, second = list(islice(stream, 5)), list(islice(stream, 5))
    assert sorted(first) == sorted(second) == [0, 1, 2, 3, 4]
    assert first != second
    assert list(islice(epochs(5, seed=0), 5)) == first
    assert list(islice(epochs(5, seed=1), 5)) != first


def test_rare_classes_are_seen_more_often() -> None:
    # class 0 in all of 100 images, class 1 in one of them
    labels = [[0, 1]] + [[0]] * 98 + [[]]
    factors = repeat_factors(made_dataset(labels, num_classes=2), threshold=0.04)
    assert factors[0] == pytest.approx(2.0)  # sqrt(0.04 / 0.01)
    assert factors[1] == 1
    assert factors[99] == 1
    seen = list(islice(epochs(100, seed=0, factors=factors), 101))
    assert seen.count(0) == 2
    half = [1.5] * 1000
    counts = torch.bincount(torch.tensor(list(islice(epochs(1000, seed=0, factors=half), 1500))))
    assert set(counts[:1000].tolist()) <= {1, 2}
    assert 400 < int((counts == 2).sum()) < 600


def test_a_batch_has_images_of_one_orientation_only() -> None:
    is_wide = [index % 3 == 0 for index in range(30)]
    plan = list(islice(batches(epochs(30, seed=0), batch_size=4, seed=1, is_wide=is_wide), 20))
    for step in plan:
        assert len(step) == 4
        assert len({is_wide[draw.index] for draw in step}) == 1
    assert [{draw.step for draw in step} for step in plan] == [{number} for number in range(20)]
    seeds = [draw.seed for step in plan for draw in step]
    assert len(set(seeds)) == len(seeds)


def test_seeds_differ_for_every_number_and_seed() -> None:
    seeds = {mixed_seed(seed, number) for seed in range(20) for number in range(500)}
    assert len(seeds) == 10_000
    assert all(0 <= seed < 2**63 for seed in seeds)
    # every bit matters: also the lowest, which a seed modulo something reads
    for bit in range(63):
        assert 4_000 < sum(seed >> bit & 1 for seed in seeds) < 6_000


def test_a_data_set_without_objects_repeats_nothing() -> None:
    assert repeat_factors(made_dataset([[]]), threshold=0.1) == [1.0]
