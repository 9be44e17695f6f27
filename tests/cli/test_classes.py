from pathlib import Path

import pytest
import torch

from regionclip.cli.classes import parse_classes, parse_names, parse_templates
from regionclip.cli.console import UsageError
from regionclip.vocabulary import Vocabulary


def test_names_with_commas_are_stripped() -> None:
    assert parse_names(" cat,remote control , ") == ("cat", "remote control")
    assert parse_names("cat") == ("cat",)


def test_many_names_are_not_too_long_to_be_no_file() -> None:
    names = tuple(f"thing number {index}" for index in range(1000))
    assert parse_names(",".join(names)) == parse_classes(",".join(names)) == names


def test_names_come_from_a_file_or_a_built_in_list(workspace: Path) -> None:
    Path("names.txt").write_text("cat\n\nred double-decker bus\n")
    assert parse_names("names.txt") == ("cat", "red double-decker bus")
    assert len(parse_names("coco80")) == 80


@pytest.mark.parametrize("text", ["names.txt", "lists/names", "vocabulary.safetensors"])
def test_a_missing_file_is_no_class_name(workspace: Path, text: str) -> None:
    with pytest.raises(UsageError, match=f"{text}: there is no such file of names"):
        parse_classes(text)


def test_no_names_and_twice_the_same_are_refused() -> None:
    with pytest.raises(ValueError, match="empty; give at least one name"):
        parse_names(" , ")
    with pytest.raises(ValueError, match="both 'cat'"):
        parse_names("cat, cat")


def test_a_vocabulary_file_is_read_as_one(workspace: Path) -> None:
    Vocabulary(("cat",), torch.ones(1, 4), (), "tiny:0").save("v.safetensors")
    vocabulary = parse_classes("v.safetensors")
    assert isinstance(vocabulary, Vocabulary)
    assert vocabulary.names == ("cat",)
    assert parse_classes(None) is None


def test_templates_are_a_set_a_sentence_or_a_file(workspace: Path) -> None:
    Path("prompts.txt").write_text("a {}.\n\nthe {}.\n")
    assert parse_templates("a nice {}") == ("a nice {}",)
    assert parse_templates("none") == ("{}",)
    assert parse_templates("prompts.txt") == ("a {}.", "the {}.")
    with pytest.raises(ValueError, match="unknown prompt templates 'nothing'"):
        parse_templates("nothing")
