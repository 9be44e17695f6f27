from pathlib import Path

import pytest

from regionclip.data.datasets import Dataset, Member, Sample
from regionclip.data.writers import (
    ImagePlacing,
    check_apart,
    image_names,
    place_images,
    relative_names,
)


def dataset(*names: str, root: Path = Path()) -> Dataset:
    return Dataset("my", (), tuple(Sample(each, root / each, each) for each in names))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.jpg", "b.jpg"], ["a.jpg", "b.jpg"]),
        (["train/a.jpg", "train/b.jpg"], ["a.jpg", "b.jpg"]),
        (["x/a.jpg", "x/y/a.jpg"], ["a.jpg", "y/a.jpg"]),
        (["xa/1.jpg", "xb/1.jpg"], ["xa/1.jpg", "xb/1.jpg"]),
        (["../x/images/a.jpg"], ["a.jpg"]),
        (["/data/a.jpg", "/etc/b.jpg"], ["data/a.jpg", "etc/b.jpg"]),
        (["a.b.jpg", "a.c.jpg"], ["a.b.jpg", "a.c.jpg"]),
        ([], []),
    ],
)
def test_names_stay_below_their_new_folder(names: list[str], expected: list[str]) -> None:
    assert image_names(dataset(*names)) == expected


@pytest.mark.parametrize("names", [["a.jpg", "a.png"], ["x/../a.jpg", "x/a.jpg"]])
def test_names_that_would_meet_are_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match=f"my: {names[0]} and {names[1]} would share one label"):
        image_names(dataset(*names))


def test_links_share_the_file_and_copies_do_not(tmp_path: Path) -> None:
    (tmp_path / "real.jpg").write_text("pixels")
    (tmp_path / "a.jpg").symlink_to("real.jpg")
    source = dataset("a.jpg", root=tmp_path)
    for placing in ("link", "copy", "none"):
        place_images(source, ["s/a.jpg"], tmp_path / placing, placing=placing)
    assert (tmp_path / "link" / "s" / "a.jpg").samefile(tmp_path / "real.jpg")
    assert not (tmp_path / "link" / "s" / "a.jpg").is_symlink()
    assert (tmp_path / "copy" / "s" / "a.jpg").read_text() == "pixels"
    assert not (tmp_path / "copy" / "s" / "a.jpg").samefile(tmp_path / "real.jpg")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("placing", "message"),
    [
        ("link", r"No such file.*\); copy images instead"),
        ("copy", r"\(No such file or directory\)$"),
    ],
)
def test_an_image_that_is_not_there_is_refused(
    tmp_path: Path, placing: ImagePlacing, message: str
) -> None:
    with pytest.raises(ValueError, match=rf"a\.jpg cannot be put into .*{message}"):
        place_images(dataset("a.jpg", root=tmp_path), ["a.jpg"], tmp_path / "x", placing=placing)


def test_paths_lead_from_the_new_file_to_the_images(tmp_path: Path) -> None:
    source = dataset("in/a.jpg", root=tmp_path)
    assert relative_names(source, tmp_path / "out") == ["../in/a.jpg"]
    assert relative_names(source, tmp_path) == ["in/a.jpg"]


def test_a_file_that_is_a_link_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "3f7a").touch()
    (tmp_path / "a.jpg").symlink_to("3f7a")
    assert relative_names(dataset("a.jpg", root=tmp_path), tmp_path) == ["a.jpg"]


def test_nothing_is_written_into_what_is_read(tmp_path: Path) -> None:
    source, images = tmp_path / "set", tmp_path / "photos"
    for each in (source, images):
        each.mkdir()
    data = dataset("a.jpg", root=images)
    check_apart(tmp_path / "out", source, [data])
    (tmp_path / "door").symlink_to(source)
    for output in (
        source / "x",
        source / ".." / "set" / "x",
        images / "x.json",
        tmp_path / "door/x",
    ):
        with pytest.raises(ValueError, match="which is read and stays as it is"):
            check_apart(output, source, [data])
    for output in (source, images):
        with pytest.raises(ValueError, match="exists; remove it, or write to another place"):
            check_apart(output, source, [data])


def test_images_in_archives_are_refused() -> None:
    member = Sample("s.tar/a.jpg", Member(Path("s.tar"), "a.jpg", 0, 1), 1)
    with pytest.raises(ValueError, match=r"s\.tar/a\.jpg is inside an archive; unpack it first"):
        relative_names(Dataset("my", (), (member,)), Path())
