from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from regionclip.cli.classes import EmbeddingFile, parse_classes, parse_names, parse_templates
from regionclip.cli.console import UsageError
from regionclip.vocabulary import Vocabulary


def test_names_with_commas_are_stripped() -> None:
    assert parse_names(" cat,remote control , ") == ("cat", "remote control")
    assert parse_names("cat") == ("cat",)
    assert parse_names("cat\uff0cmonitor/TV; dog") == ("cat", "monitor/TV", "dog")
    assert parse_names('["monitor/TV"]') == ("monitor/TV",)


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
    Vocabulary(("cat",), torch.ones(1, 4), (), "tiny:0").save("v.txt")
    vocabulary = parse_classes("v.txt")
    assert isinstance(vocabulary, Vocabulary)
    assert vocabulary.names == ("cat",)
    assert parse_classes(None) is None


def save_rows(path: str, num_rows: int) -> None:
    """In one of the forms that embeddings come in, by the suffix or against it."""
    rows = torch.ones(num_rows, 4)
    if path.endswith("npy"):
        np.save(path, rows.numpy())
    else:
        torch.save(rows, path, _use_new_zipfile_serialization=path != "old.pth")


@pytest.mark.parametrize("path", ["rows.npy", "rows.pth", "old.pth", "names.txt"])
def test_class_embeddings_take_their_names_from_a_second_option(workspace: Path, path: str) -> None:
    save_rows(path, 2)
    assert parse_classes(path, class_names="cat, dog") == EmbeddingFile(Path(path), ("cat", "dog"))
    Path("two.txt").write_text("dog\ncat\n")
    assert parse_classes(path, class_names="two.txt") == EmbeddingFile(Path(path), ("dog", "cat"))
    save_rows(path, 17)
    found = parse_classes(path, class_names="coco17")
    assert isinstance(found, EmbeddingFile)
    assert len(found.names) == 17


@pytest.mark.parametrize(
    ("num_rows", "suggested"),
    [
        (17, "coco17 has 17 names"),
        (48, "coco48 and icons have 48 names"),
        (65, "coco65 has 65 names"),
        (80, "coco80 has 80 names"),
        (866, "lvis866 has 866 names"),
        (1203, "lvis1203 has 1203 names"),
        (3, "none has 3 names"),
    ],
)
def test_class_embeddings_without_names_suggest_the_list_that_fits(
    workspace: Path, num_rows: int, suggested: str
) -> None:
    save_rows("rows.pth", num_rows)
    with pytest.raises(
        UsageError,
        match=rf"--classes rows.pth: holds {num_rows} class embeddings without names; give the "
        rf"names, in the order of the rows, as --class-names: .*\({suggested}\)$",
    ):
        parse_classes("rows.pth")


def test_a_single_concept_may_have_a_single_axis(workspace: Path) -> None:
    torch.save(torch.ones(4), "one.pth")
    assert parse_classes("one.pth", class_names="cat") == EmbeddingFile(Path("one.pth"), ("cat",))


def test_options_about_classes_must_go_together(workspace: Path) -> None:
    save_rows("rows.pth", 3)
    Vocabulary(("cat",), torch.ones(1, 4), (), "tiny:0").save("v.safetensors")
    with pytest.raises(
        UsageError, match=r"--class-names gives 2 names, and rows.pth has 3 rows; give one name"
    ):
        parse_classes("rows.pth", class_names="cat, dog")
    for classes in ("cat, dog", "coco80", "v.safetensors", None):
        with pytest.raises(UsageError, match="--class-names names the rows of a file of class"):
            parse_classes(classes, class_names="cat")
    for classes in ("rows.pth", "v.safetensors"):
        with pytest.raises(
            UsageError, match=rf"--templates: {classes} holds vectors, which are made"
        ):
            parse_classes(classes, templates="photo")
    assert parse_classes("cat", templates="photo") == ("cat",)


def test_a_checkpoint_holds_no_classes(workspace: Path) -> None:
    torch.save({"model": {"conv.weight": torch.ones(3, 3)}}, "model.pth")
    with pytest.raises(UsageError, match=r"--classes model.pth: holds tensors with names; expect"):
        parse_classes("model.pth", class_names="coco80")
    torch.save(torch.ones(2, 3, 4), "cube.pth")
    with pytest.raises(UsageError, match=r"--classes cube.pth: holds a \(2, 3, 4\) tensor; expect"):
        parse_classes("cube.pth")
    save_file({"conv.weight": torch.ones(3, 3)}, "model.safetensors")
    with pytest.raises(ValueError, match=r"model.safetensors is no vocabulary"):
        parse_classes("model.safetensors")
    Path("empty.txt").touch()
    with pytest.raises(ValueError, match=r"empty.txt is empty \(0 bytes\)"):
        parse_classes("empty.txt")


def test_templates_are_a_set_a_sentence_or_a_file(workspace: Path) -> None:
    Path("prompts.txt").write_text("a {}.\n\nthe {}.\n")
    assert parse_templates("a nice {}") == ("a nice {}",)
    assert parse_templates("a nice {name}") == ("a nice {name}",)
    assert parse_templates("none") == ("{}",)
    assert parse_templates("prompts.txt") == ("a {}.", "the {}.")
    with pytest.raises(ValueError, match="unknown prompt templates 'nothing'"):
        parse_templates("nothing")
