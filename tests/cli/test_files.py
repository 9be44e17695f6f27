from pathlib import Path

import pytest

from regionclip.cli.files import FileNames, new_folder, replacing
from regionclip.data.sources import NamedSource


def source(name: str, relative: str) -> NamedSource:
    return NamedSource(name, Path(name), Path(name), relative)


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "made" / "a.txt"
    with replacing(path) as partial:
        partial.write_text("old")
        assert not path.exists()
    assert path.read_text() == "old"

    def fail() -> None:
        with replacing(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_names_lose_their_last_suffix_only() -> None:
    names = FileNames(".pth")
    assert names.of(source("/x/a/b.c.jpg", "a/b.c.jpg")) == "a/b.c.pth"
    assert names.of(source("/x/plain", "plain")) == "plain.pth"


def test_no_two_images_share_a_file() -> None:
    names = FileNames(".pth")
    images = [
        source("/x/a.jpg", "a.jpg"),
        source("/x/a.png", "a.png"),
        source("/y/a.png", "a.png"),
        source("/x/a.b.jpg", "a.b.jpg"),
    ]
    files = [names.of(image) for image in images]
    assert files[:2] == ["a.pth", "a.png.pth"]
    assert files[3] == "a.b.pth"
    assert len(set(files)) == 4
    assert [names.of(image) for image in images] == files


def test_a_claimed_file_belongs_to_its_image() -> None:
    names = FileNames(".jpg")
    names.claim("a.jpg", "/x/a.png")
    assert names.of(source("/x/a.jpg", "a.jpg")) == "a.jpg.jpg"
    assert names.of(source("/x/a.png", "a.png")) == "a.jpg"


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a" / "b") as folder:
        (folder / "file").write_text("whole")
        assert not (tmp_path / "a" / "b").exists()
    assert (tmp_path / "a" / "b" / "file").read_text() == "whole"
    with pytest.raises(KeyError), new_folder(tmp_path / "a" / "c"):
        raise KeyError
    assert [each.name for each in (tmp_path / "a").iterdir()] == ["b"]
