import pytest

from regionclip.concepts.class_names import builtin_names
from regionclip.demo.inputs import (
    MAX_BOXES,
    MAX_PROMPTS,
    MAX_SENTENCES,
    MAX_TEXT,
    MIN_SCORE,
    InputError,
    checked_vocabulary,
    foreign_names,
    typed_names,
    typed_templates,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat, remote control", ("cat", "remote control")),
        ("cat\n red   bus \n\ncat,,", ("cat", "red bus")),
        ("雨伞, umbrella", ("雨伞", "umbrella")),
        ("雨伞\uff0cumbrella\u3001cup; [cat", ("雨伞", "umbrella", "cup", "[cat")),
        ('["cat, dog", "", " cat, dog"]', ("cat, dog",)),
        ("voc20", builtin_names("voc20")),
        ("umbrella,voc20,\ncat", ("umbrella", *builtin_names("voc20"))),
        ("/etc/passwd", ("/etc/passwd",)),  # a name like any other: nothing is read
        (" , \n", ()),
    ],
)
def test_names_are_read_from_what_was_typed(text: str, expected: tuple[str, ...]) -> None:
    assert typed_names(text) == expected


@pytest.mark.parametrize("text", ["coco", "cat, names.txt", "[cat]"])
def test_what_is_meant_otherwise_is_told_to_the_visitor(text: str) -> None:
    with pytest.raises(InputError, match="in JSON"):
        typed_names(text)


def test_a_name_in_both_places_is_looked_for() -> None:
    names, negatives, templates = checked_vocabulary("cat, dog", "dog, wolf", "photo")
    assert (names, negatives) == (("cat", "dog"), ("wolf",))
    assert templates == ("a photo of a {}.",)


def test_no_names_are_refused() -> None:
    with pytest.raises(InputError, match="no names to look for; type some"):
        checked_vocabulary(" ,", "wolf", "photo")


def test_more_texts_than_a_visitor_may_have_are_refused() -> None:
    names = ", ".join(f"thing {number}" for number in range(500))
    assert len(checked_vocabulary(names, "", "photo")[0]) == 500
    with pytest.raises(
        InputError,
        match=r"^500 names in 81 prompts each are 40500 texts.*give at most 49 names, or choose",
    ):
        checked_vocabulary(names, "", "imagenet80")
    many = "\n".join(map(str, range(MAX_PROMPTS + 1)))
    with pytest.raises(InputError, match=rf"give at most {MAX_PROMPTS} names$"):
        checked_vocabulary(many, "", "photo")


def test_prompts_are_a_set_or_sentences_of_ones_own() -> None:
    assert typed_templates("none") == ("{}",)
    assert typed_templates("a drawing of a {}") == ("a drawing of a {}",)
    assert typed_templates("a {}\n the {}\n") == ("a {}", "the {}")


@pytest.mark.parametrize("text", ["fotos", "", "a photo of {\nx", "a {} photo {}"])
def test_other_prompts_are_refused(text: str) -> None:
    with pytest.raises(
        InputError, match=r"cannot be used; choose one of imagenet80, .*with one \{\}"
    ):
        typed_templates(text)


def test_names_without_latin_letters_are_told() -> None:
    assert foreign_names(["伞", "Ünal", "зонт", "7", "伞 umbrella"]) == ("伞", "зонт")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("x" * (MAX_TEXT + 1), "", "photo"), r'^"Names" has 40001 characters, .* reads 40000'),
        (("cat", "x" * (MAX_TEXT + 1), "photo"), '^"Negative names" has 40001 characters'),
        (("cat", "", "{}" + "x" * MAX_SENTENCES), '^"Prompts" has 2002 characters'),
    ],
)
def test_more_text_than_the_page_takes_is_refused_here_too(
    texts: tuple[str, str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        checked_vocabulary(*texts)


def test_fields_that_arrive_as_nothing_are_empty() -> None:
    with pytest.raises(InputError, match="no names to look for"):
        checked_vocabulary(None, None, "photo")
    with pytest.raises(InputError, match="the prompts '' cannot be used"):
        checked_vocabulary("cat", None, None)


def test_a_number_in_range_is_taken() -> None:
    assert [MIN_SCORE.number(each) for each in (0, 0.25, 1)] == [0.0, 0.25, 1.0]
    assert MAX_BOXES.whole(7.0) == 7


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "is empty"),
        ("", "is empty"),
        (1.5, r"cannot be 1\.5"),
        (float("nan"), "cannot be nan"),
        (True, "cannot be True"),
        ("0.5", "cannot be '0.5'"),
        ([1], r"cannot be \[1\]"),
    ],
)
def test_what_is_no_number_in_range_is_refused_by_its_label(value: object, said: str) -> None:
    with pytest.raises(InputError, match=f'^"Lowest score" {said}; give a number from 0 to 1$'):
        MIN_SCORE.number(value)
