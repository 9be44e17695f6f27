import json
from pathlib import Path

import numpy as np
import pytest

from regionclip.concepts.class_names import (
    BUILTIN_LISTS,
    builtin_ids,
    builtin_names,
    checked_names,
    read_names,
)
from tests.parity.comparing import parity_folder

DATA = Path(__file__).parents[3] / "shared" / "data" / "clip_text_embeddings"


@pytest.mark.parametrize("name", BUILTIN_LISTS)
def test_a_built_in_list_is_as_long_as_its_name_says_and_usable(name: str) -> None:
    names = builtin_names(name)
    digits = "".join(filter(str.isdigit, name))
    assert not digits or len(names) == int(digits)
    assert checked_names(names) == names


def test_base_and_novel_make_the_whole() -> None:
    assert {*builtin_names("coco48"), *builtin_names("coco17")} == {*builtin_names("coco65")}
    assert {*builtin_names("lvis866"), *builtin_names("lvis337")} == {*builtin_names("lvis1203")}


def test_novel_rows_of_coco65_are_those_of_the_protocol() -> None:
    novel = builtin_names("coco17")
    rows = [row for row, name in enumerate(builtin_names("coco65")) if name in novel]
    assert rows == [4, 5, 11, 12, 15, 16, 21, 23, 27, 29, 32, 34, 45, 47, 54, 58, 63]


@pytest.mark.parametrize("name", ["coco80", "coco65", "coco48", "coco17", "lvis1203", "lvis866"])
def test_lists_are_those_that_the_originals_embeddings_belong_to(name: str) -> None:
    path = parity_folder() / "regionclip" / "class_names.json"
    if not path.is_file():
        pytest.skip(f"the originals' names are missing: {path}")
    key = name.replace("coco", "coco_").replace("lvis", "lvis_")
    assert builtin_names(name) == tuple(json.loads(path.read_text())[key])


def test_objects365_is_in_the_order_of_its_ids() -> None:
    """Real embeddings of its rows agree with those of the same words in COCO and LVIS."""
    files = {
        "coco80": "detic__coco_clip_a+cname.npy",
        "lvis1203": "detic__lvis_v1_clip_a+cname.npy",
        "objects365": "detic__o365_clip_a+cnamefix.npy",
    }
    if not DATA.is_dir():
        pytest.skip(f"real embeddings are missing: {DATA}")
    rows = {name: np.load(DATA / file).astype(np.float32) for name, file in files.items()}
    known = {
        word: row
        for name in ("lvis1203", "coco80")
        for word, row in zip(builtin_names(name), rows[name], strict=True)
    }
    shared = [
        (float(known[word] @ row / np.linalg.norm(known[word]) / np.linalg.norm(row)), word)
        for word, row in zip(builtin_names("objects365"), rows["objects365"], strict=True)
        if word in known
    ]
    assert len(shared) > 150
    # underscores in the other lists' words cost up to 0.07; different words reach 0.85 at most
    assert min(shared)[0] > 0.93, min(shared)


def test_an_unknown_list_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown class list 'coco'; expected one of coco80, coco"):
        builtin_names("coco")


def test_read_names_takes_one_name_per_line(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes("\ufeffcat\r\n\r\n remote control \nKühlschrank".encode())
    assert read_names(tmp_path / "names.txt") == ("cat", "remote control", "Kühlschrank")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00cat", r"names\.txt is no text in UTF-8; expected one class name per line"),
        (b"\n \n", r"names\.txt are empty; give at least one name"),
        (b"cat\ndog\ncat\n", r"names 0 and 2 of .*names\.txt are both 'cat'"),
    ],
)
def test_read_names_names_the_file_and_the_reason(
    content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_names(tmp_path / "names.txt")


def test_read_names_says_that_there_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.txt cannot be read: No such file"):
        read_names(tmp_path / "gone.txt")


def test_checked_names_strips_and_keeps_the_order() -> None:
    assert checked_names(["dog ", " cat"]) == ("dog", "cat")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "the class names are empty; give at least one name"),
        (["cat", " "], "name 1 of the class names is empty; remove it"),
        (["cat", "dog", " cat"], "names 0 and 2 of the class names are both 'cat'"),
        ("cat", r"expected a list of names, got one string; write \['cat'\]"),
    ],
)
def test_checked_names_refuses_what_cannot_be_told_apart(
    names: list[str] | str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        checked_names(names)


def test_ids_are_the_data_sets_own() -> None:
    coco = dict(zip(builtin_names("coco80"), builtin_ids("coco80"), strict=True))
    assert (coco["person"], coco["cat"], coco["stop sign"], coco["toothbrush"]) == (1, 17, 13, 90)
    assert builtin_ids("coco17")[:5] == (5, 6, 17, 18, 21)
    assert builtin_ids("lvis1203") == tuple(range(1, 1204))
    assert builtin_ids("lvis337")[0] == 13  # applesauce


def test_lists_of_data_sets_without_ids_have_none() -> None:
    with pytest.raises(ValueError, match="the list 'voc20' has no ids; those of COCO and LVIS"):
        builtin_ids("voc20")
