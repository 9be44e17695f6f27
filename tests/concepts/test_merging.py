import pytest

from regionclip.concepts.merging import MergeRules, merge_concepts, without_names


def test_the_frequent_come_first_and_equals_by_name() -> None:
    merged = merge_concepts({"cat": 5, "zebra": 7, "ant": 5, "rare": 4}, MergeRules(min_count=5))
    assert list(merged.counts.items()) == [("zebra", 7), ("ant", 5), ("cat", 5)]
    assert merged.num_rare == 1
    assert merged.excluded == ()


def test_plurals_count_as_the_singular_that_captions_have() -> None:
    counts = {"ear": 3, "ears": 4, "dog ears": 2, "dog ear": 1, "bus": 5, "bu": 1, "stairs": 6}
    merged = merge_concepts(counts, MergeRules(min_count=1))
    assert merged.counts == {"ear": 7, "stairs": 6, "bus": 5, "dog ear": 3, "bu": 1}


def test_synonyms_count_as_the_other_name() -> None:
    rules = MergeRules(min_count=4, synonyms={"Puppy": "dog", "cell_phone": "mobile phone"})
    merged = merge_concepts({"puppy": 3, "puppies": 1, "dog": 1, "cell phone": 4}, rules)
    assert merged.counts == {"dog": 5, "mobile phone": 4}


def test_a_rare_compound_counts_as_what_it_is_a_kind_of() -> None:
    counts = {
        "airport luggage cart": 3,
        "red luggage cart": 1,
        "cart": 2,
        "park bench": 5,
        "bench": 1,
        "hot dog": 2,
        "dog": 5,
    }
    merged = merge_concepts(counts, MergeRules(min_count=5))
    # 3 + 1 make a "luggage cart" of 4, still too rare; a hot dog is no dog; a bench of 1 is rare
    assert merged.counts == {"cart": 6, "dog": 5, "park bench": 5}
    assert merged.num_rare == 2


def test_a_compound_inside_a_rare_one_goes_as_a_whole() -> None:
    counts = {"dining room table": 2, "german shepherd dog": 1, "table": 1, "dog": 2}
    merged = merge_concepts(counts, MergeRules(min_count=3))
    assert merged.counts == {"dog": 3, "table": 3}


def test_a_shortened_compound_counts_as_its_synonym() -> None:
    rules = MergeRules(min_count=3, synonyms={"puppy": "dog"})
    assert merge_concepts({"poodle puppy": 2, "dog": 1}, rules).counts == {"dog": 3}


def test_excluded_names_stay_out_in_every_compound() -> None:
    counts = {"umbrella": 9, "beach umbrella": 8, "umbrellas stand": 7, "dog": 6, "tie-in": 5}
    rules = MergeRules(min_count=1, exclude=("Umbrellas", "tie"))
    merged = merge_concepts(counts, rules)
    assert merged.counts == {"dog": 6, "tie-in": 5}
    assert merged.excluded == ("beach umbrella", "umbrella", "umbrellas stand")


def test_a_synonym_does_not_bring_back_an_excluded_name() -> None:
    rules = MergeRules(min_count=1, synonyms={"brolly": "umbrella"}, exclude=("umbrella",))
    assert merge_concepts({"brolly": 3, "cat": 1}, rules).counts == {"cat": 1}


def test_a_list_keeps_its_order_without_the_excluded() -> None:
    assert without_names(["zebra", "Cell_Phone", "ant"], ["cell phones"]) == ("zebra", "ant")
    assert without_names(["b", "a"], []) == ("b", "a")


def test_no_captions_give_no_concepts() -> None:
    assert merge_concepts({}, MergeRules()).counts == {}


def test_a_minimum_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="min_count must be at least 1, got 0"):
        MergeRules(min_count=0)
