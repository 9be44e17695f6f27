from collections import Counter

import pytest

from regionclip.concepts.counting import CAPTIONS_PER_TASK, count_concepts
from regionclip.concepts.noun_phrases import PhraseRules

CAPTIONS = ("a dog and a dog", "two dogs and a cat", " ", "3 , 4", "a b\ufffdll and a hat")


def test_captions_that_name_a_concept_are_counted() -> None:
    found = count_concepts([*CAPTIONS, "the cat " * 101])
    assert found.counts == Counter({"dog": 2, "cat": 2, "hat": 1})
    assert found.num_captions == 6
    assert found.num_empty == 1
    assert found.num_cut == 1
    assert found.num_damaged == 1
    assert found.num_without == 2


def test_no_captions_give_zeros() -> None:
    found = count_concepts([])
    assert (found.counts, found.num_captions, found.num_empty) == (Counter(), 0, 0)


def test_rules_are_kept_and_progress_adds_up() -> None:
    steps: list[int] = []
    captions = ["a red hat"] * (CAPTIONS_PER_TASK + 1)
    found = count_concepts(captions, PhraseRules(keep="phrases"), progress=steps.append)
    assert found.counts == Counter({"red hat": CAPTIONS_PER_TASK + 1})
    assert steps == [CAPTIONS_PER_TASK, 1]


@pytest.mark.slow
def test_two_processes_count_as_one() -> None:
    captions = [f"a dog and {number} cats" for number in range(CAPTIONS_PER_TASK + 10)]
    assert count_concepts(captions, num_processes=2) == count_concepts(captions)
