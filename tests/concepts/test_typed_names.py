import pytest

from regionclip.concepts.class_names import BUILTIN_LISTS, builtin_names
from regionclip.concepts.typed_names import near_lists, split_names

FULL_WIDTH_COMMA, IDEOGRAPHIC_COMMA, FULL_WIDTH_SEMICOLON = "\uff0c", "\u3001", "\uff1b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("star, red  heart ,", ("star", "red heart")),
        (f"星{FULL_WIDTH_COMMA}心", ("星", "心")),
        (f"星{IDEOGRAPHIC_COMMA}心{FULL_WIDTH_SEMICOLON}cup", ("星", "心", "cup")),
        ("star; heart;", ("star", "heart")),
        ("star\r\n\r\nheart\u2028cup", ("star", "heart", "cup")),
        ("cat, cat", ("cat", "cat")),
        ("coco17", builtin_names("coco17")),
        ("cup; voc20", ("cup", *builtin_names("voc20"))),
        ('["a, b", "names.txt", "coco"]', ("a, b", "names.txt", "coco")),
        ("[]", ()),
        (" ;\n", ()),
        ("monitor/TV, objects, cocoa", ("monitor/TV", "objects", "cocoa")),
    ],
)
def test_names_are_told_apart(text: str, expected: tuple[str, ...]) -> None:
    assert split_names(text) == expected


@pytest.mark.parametrize("name", BUILTIN_LISTS)
def test_no_shipped_name_is_taken_for_anything_else(name: str) -> None:
    assert split_names(", ".join(builtin_names(name))) == builtin_names(name)


@pytest.mark.parametrize(
    ("name", "lists"),
    [
        ("coco", ("coco80", "coco65", "coco48", "coco17")),
        ("COCO80", ("coco80",)),
        ("lvis-1203", ("lvis1203",)),
        ("LVIS v1", ()),
        ("voc2007", ("voc20",)),
        ("diverse weather", ("diverse_weather7",)),
        ("Icons", ("icons",)),
        ("objects", ()),
        ("Objects 365", ("objects365",)),
        ("", ()),
        ("365", ()),
    ],
)
def test_what_is_nearly_a_list(name: str, lists: tuple[str, ...]) -> None:
    assert near_lists(name) == lists


def test_a_near_miss_says_which_list_may_be_meant() -> None:
    with pytest.raises(ValueError, match=r"no list 'voc'; did you mean voc20\?.*: \[\"voc\"\]$"):
        split_names("cat, voc")


@pytest.mark.parametrize("text", ["names.txt", "cat, lists/NAMES.TXT", "v.safetensors"])
def test_a_file_is_no_name(text: str) -> None:
    with pytest.raises(ValueError, match="is a file's name, and names are read from none here"):
        split_names(text)


@pytest.mark.parametrize("text", ["['star']", '["star", 1]', "[star, heart]", "[" * 100_000])
def test_what_begins_like_a_list_has_to_be_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"are none; write \[\"cat\", \"remote control\"\]"):
        split_names(text)
