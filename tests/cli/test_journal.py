import os
from pathlib import Path

import pytest

from regionclip.cli.console import UsageError
from regionclip.cli.journal import Journal
from regionclip.data.sources import NamedSource

SETTINGS = {"model": "tiny", "classes": ["a", "b"], "min_score": None}


def source(path: Path) -> NamedSource:
    return NamedSource(str(path), path, path, path.name)


@pytest.fixture
def images(tmp_path: Path) -> list[NamedSource]:
    paths = [tmp_path / f"{n}.jpg" for n in range(3)]
    for path in paths:
        path.write_text(path.name)
    return [source(path) for path in paths]


def filled(path: Path, images: list[NamedSource]) -> None:
    with Journal(path, SETTINGS, resume=True) as journal:
        for index, image in enumerate(images):
            journal.write(image, {"index": index})


def test_what_was_written_is_found_again_in_order(
    tmp_path: Path, images: list[NamedSource]
) -> None:
    path = tmp_path / "made" / "journal.jsonl"
    filled(path, images[:2])
    with Journal(path, {**SETTINGS, "classes": ("a", "b")}, resume=True) as journal:
        assert [journal.is_done(image) for image in images] == [True, True, False]
        assert [image.name in journal for image in images] == [True, True, False]
        assert journal.num_found == len(journal) == 2
        journal.write(images[2], {"index": 2})
        assert [entry["index"] for entry in journal.entries()] == [0, 1, 2]
        assert journal.num_found == 2


def test_a_new_journal_is_empty(tmp_path: Path, images: list[NamedSource]) -> None:
    with Journal(tmp_path / "journal.jsonl", SETTINGS, resume=True) as journal:
        assert list(journal.entries()) == []
        assert not journal.is_done(images[0])


def test_an_image_whose_file_changed_is_not_done_and_its_new_line_counts(
    tmp_path: Path, images: list[NamedSource]
) -> None:
    path = tmp_path / "journal.jsonl"
    filled(path, images)
    images[0].file.write_text("changed")
    os.utime(images[1].file, ns=(1, 1))
    with Journal(path, SETTINGS, resume=True) as journal:
        assert [journal.is_done(image) for image in images] == [False, False, True]
        journal.write(images[0], {"index": 9})
        assert journal.is_done(images[0])
        assert [entry["index"] for entry in journal.entries()] == [1, 2, 9]


@pytest.mark.parametrize("num_cut", [1, 10])
def test_a_line_that_was_cut_off_is_dropped(
    tmp_path: Path, images: list[NamedSource], num_cut: int
) -> None:
    path = tmp_path / "journal.jsonl"
    filled(path, images)
    path.write_bytes(path.read_bytes()[:-num_cut])
    with Journal(path, SETTINGS, resume=True) as journal:
        assert [entry["index"] for entry in journal.entries()] == [0, 1]
        journal.write(images[2], {"index": 2})
    with Journal(path, SETTINGS, resume=True) as journal:
        assert [entry["index"] for entry in journal.entries()] == [0, 1, 2]


def test_even_cut_off_settings_are_written_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"settings": {"mod')
    with Journal(path, SETTINGS, resume=True) as journal:
        assert len(journal) == 0
    with Journal(path, SETTINGS, resume=True):
        pass


def test_other_settings_are_refused_by_name(tmp_path: Path, images: list[NamedSource]) -> None:
    path = tmp_path / "journal.jsonl"
    filled(path, images)
    content = path.read_bytes()
    changed = {**SETTINGS, "classes": ["a", "c"]}
    with pytest.raises(
        UsageError, match=r'classes was \["a", "b"\], now \["a", "c"\]; use another'
    ):
        Journal(path, changed, resume=True)
    assert path.read_bytes() == content
    with Journal(path, changed, resume=False) as journal:
        assert len(journal) == 0


def test_of_a_file_the_content_is_compared_and_the_name_is_shown(
    tmp_path: Path, images: list[NamedSource]
) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, {"model": {"name": "a", "content": "0123456789"}}, resume=True) as journal:
        journal.write(images[0], {})
    with Journal(path, {"model": {"name": "b", "content": "0123456789"}}, resume=True) as journal:
        assert len(journal) == 1
    with pytest.raises(
        UsageError, match=r'model was "a" \(content 01234567\), now "a" \(content 99\); use'
    ):
        Journal(path, {"model": {"name": "a", "content": "99"}}, resume=True)
    with pytest.raises(UsageError, match=r'model was "a" \(content 01234567\), now "grid"; use'):
        Journal(path, {"model": "grid"}, resume=True)


@pytest.mark.parametrize("line", ["hello", "[]", '{"image": "a"}'])
def test_a_damaged_line_is_refused_by_its_number(
    tmp_path: Path, images: list[NamedSource], line: str
) -> None:
    path = tmp_path / "journal.jsonl"
    filled(path, images)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], line, *lines[2:]]) + "\n")
    with pytest.raises(UsageError, match=r"journal\.jsonl is damaged in line 3"):
        Journal(path, SETTINGS, resume=True)
