from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regionclip.demo.inputs import InputError, Picture
from regionclip.demo.sessions import MAX_PICTURES, Sessions, write_examples


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    path = tmp_path / "mine.png"
    Image.new("RGB", (64, 48), "blue").save(path)
    return path


def test_examples_are_drawn_alike_each_time(tmp_path: Path, scenes: list[Picture]) -> None:
    again = write_examples(tmp_path / "again", count=1)[0]
    pixels = [np.asarray(Image.open(each.path)) for each in (again, scenes[0])]
    assert (pixels[0] == pixels[1]).all()
    assert again.size_hw == pixels[0].shape[:2]


def test_visitors_begin_with_the_examples_and_see_no_others_pictures(
    tmp_path: Path, scenes: list[Picture], upload: Path
) -> None:
    sessions = Sessions(tmp_path / "visitors", scenes)
    mine, yours = sessions.of("me"), sessions.of("you")
    taken = mine.add(upload)
    assert mine.pictures == [*scenes, taken]
    assert mine.picture == taken
    assert yours.pictures == scenes
    assert sessions.of("me") is mine
    mine.look_at(1)
    assert (mine.picture, yours.picture) == (scenes[1], scenes[0])


def test_the_longest_silent_visitor_goes_with_all_files(
    tmp_path: Path, scenes: list[Picture], upload: Path
) -> None:
    sessions = Sessions(tmp_path / "visitors", scenes, max_sessions=2)
    first = sessions.of("first").add(upload)
    second = sessions.of("second").add(upload)
    sessions.of("first")
    sessions.of("third")
    assert (first.path.exists(), second.path.exists()) == (True, False)
    sessions.end("first")
    sessions.end("nobody")
    assert not first.path.exists()
    assert len(sessions) == 1


def test_a_key_from_outside_names_no_folder(tmp_path: Path, scenes: list[Picture]) -> None:
    session = Sessions(tmp_path / "visitors", scenes).of("../../elsewhere")
    assert session.folder.parent == tmp_path / "visitors"


def test_too_many_pictures_are_refused(tmp_path: Path, scenes: list[Picture], upload: Path) -> None:
    session = Sessions(tmp_path / "visitors", scenes).of("me")
    for _ in range(MAX_PICTURES):
        session.add(upload)
    with pytest.raises(InputError, match=f"{MAX_PICTURES} pictures are kept"):
        session.add(upload)


def test_a_picture_that_is_not_there_cannot_be_chosen(
    tmp_path: Path, scenes: list[Picture]
) -> None:
    with pytest.raises(InputError, match="no picture number 4"):
        Sessions(tmp_path / "visitors", scenes).of("me").look_at(3)
    with pytest.raises(InputError, match="no picture yet"):
        Sessions(tmp_path / "others", []).of("me").box("name", [0, 0, 9, 9])


def test_a_box_stays_until_another_picture_is_looked_at(
    tmp_path: Path, scenes: list[Picture]
) -> None:
    session = Sessions(tmp_path / "visitors", scenes).of("me")
    with pytest.raises(InputError, match="no box yet"):
        session.box("find", None)
    assert session.box("find", [30, 40, 10, 20]) == [10, 20, 30, 40]
    assert session.box("find", None) == [10, 20, 30, 40]
    with pytest.raises(InputError, match="no box yet"):
        session.box("name", None)
    session.look_at(1)
    with pytest.raises(InputError, match="no box yet"):
        session.box("find", None)


def test_only_the_last_results_are_kept(tmp_path: Path, scenes: list[Picture]) -> None:
    session = Sessions(tmp_path / "visitors", scenes).of("me")
    folders = [session.results_folder() for _ in range(4)]
    assert [each.exists() for each in folders] == [False, False, True, True]
