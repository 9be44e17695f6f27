from pathlib import Path

from regionclip.cli.files import FileNames
from regionclip.data.sources import NamedSource


def source(name: str, relative: str) -> NamedSource:
    return NamedSource(name, Path(name), Path(name), relative)


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
