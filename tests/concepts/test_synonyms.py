from pathlib import Path

import pytest

from regionclip.concepts.class_names import builtin_names
from regionclip.concepts.synonyms import (
    check_synonyms,
    read_synonyms,
    renamed,
    words_asked_for,
)


def test_a_file_gives_other_names(tmp_path: Path) -> None:
    path = tmp_path / "synonyms.txt"
    path.write_text("# comment\n\nbike = bicycle\nRider=person on a bike\n")
    found = read_synonyms(path)
    assert found == {"bike": "bicycle", "Rider": "person on a bike"}
    assert renamed(("rider", "car", "Bike"), found) == ("person on a bike", "car", "bicycle")


def test_the_shipped_list_names_classes_of_diverse_weather() -> None:
    found = read_synonyms("diverse_weather7")
    assert found["bike"] == "bicycle"
    check_synonyms(found, builtin_names("diverse_weather7"), "the list")


def test_stuff_of_coco_panoptic_has_plain_words_and_readers_are_told_which_were_asked_for() -> None:
    found = read_synonyms("coco_panoptic")
    assert len(found) == 28
    assert not any(
        "-" in word or word.endswith(("other", "merged", "stuff")) for word in found.values()
    )
    assert len(set(found.values())) == 28
    names = ("person", "floor-other-merged", "wall-brick")
    assert renamed(names, found) == ("person", "floor", "brick wall")
    told = words_asked_for(names, found)
    assert told == (
        "2 classes are asked for by other words: floor-other-merged as floor, "
        "wall-brick as brick wall."
    )
    told = words_asked_for(names, {})
    assert told is not None
    assert told.startswith("2 classes are asked for by the data's names, such as 'floor-other-mer")
    assert words_asked_for(("person", "sky"), {}) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("bike bicycle", r"line 1 is not 'class = other name': 'bike bicycle'"),
        ("\nbike =", r"line 2 is not 'class = other name'"),
        ("bike = bicycle\nBike = cycle", r"line 2 names 'Bike' again"),
    ],
)
def test_other_lines_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "synonyms.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=reason):
        read_synonyms(path)


def test_missing_files_and_unknown_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot be read as a file of synonyms.*or one of div"):
        read_synonyms(tmp_path / "nothing.txt")
    with pytest.raises(ValueError, match="mine has a synonym for 'bik', which is no class of the"):
        check_synonyms({"bik": "bicycle"}, ("bike", "car"), "mine")
