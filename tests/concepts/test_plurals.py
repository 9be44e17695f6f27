import pytest

from regionclip.concepts.plurals import may_be_plural, singular


@pytest.mark.parametrize(
    ("plural", "expected"),
    [
        ("dogs", "dog"),
        ("people", "person"),
        ("geese", "goose"),
        ("knives", "knife"),
        ("fire hydrants", "fire hydrant"),
        ("wine glasses", "wine glass"),
        ("bookshelves", "bookshelf"),
        ("pies", "pie"),
        ("cherries", "cherry"),
        ("skis", "ski"),
    ],
)
def test_a_plural_becomes_a_singular(plural: str, expected: str) -> None:
    assert singular(plural) == expected


@pytest.mark.parametrize(
    "name", ["jeans", "scissors", "glasses", "swim trunks", "bus", "tennis", "dress", "santa claus"]
)
def test_what_is_no_plural_stays(name: str) -> None:
    assert singular(name) == name


def test_plurals_are_told_by_their_ends() -> None:
    found = [each for each in ("dogs", "taxis", "dog", "glass", "bus", "") if may_be_plural(each)]
    assert found == ["dogs", "taxis"]
