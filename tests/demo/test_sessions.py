from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regionclip.demo.inputs import InputError
from regionclip.demo.pictures import Picture
from regionclip.demo.sessions import MAX_PICTURES, Drawn, Sessions, write_examples


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
    mine, yours = sessions.begin("me"), sessions.begin("you")
    taken = mine.add(upload)
    assert mine.pictures == [*scenes, taken]
    assert mine.look().picture == taken
    assert yours.pictures == scenes
    assert sessions.of("me") is mine
    mine.look_at(1)
    assert (mine.look().picture, yours.look().picture) == (scenes[1], scenes[0])


def test_the_longest_silent_visitor_goes_with_all_files(
    tmp_path: Path, scenes: list[Picture], upload: Path
) -> None:
    sessions = Sessions(tmp_path / "visitors", scenes, max_sessions=2)
    first = sessions.begin("first").add(upload)
    second = sessions.begin("second").add(upload)
    sessions.of("first")
    sessions.begin("third")
    assert (first.path.exists(), second.path.exists()) == (True, False)
    sessions.end("first")
    sessions.end("nobody")
    assert not first.path.exists()
    assert len(sessions) == 1


def test_a_key_from_outside_names_no_folder(tmp_path: Path, scenes: list[Picture]) -> None:
    session = Sessions(tmp_path / "visitors", scenes).begin("../../elsewhere")
    assert session.folder.parent == tmp_path / "visitors"
    assert len(session.folder.name) == 32  # beyond guessing: files in it are handed out


def test_too_many_pictures_are_refused(tmp_path: Path, scenes: list[Picture], upload: Path) -> None:
    session = Sessions(tmp_path / "visitors", scenes).begin("me")
    for _ in range(MAX_PICTURES):
        session.add(upload)
    with pytest.raises(InputError, match=f"{MAX_PICTURES} pictures are kept"):
        session.add(upload)


def test_a_picture_that_is_not_there_cannot_be_chosen(
    tmp_path: Path, scenes: list[Picture]
) -> None:
    with pytest.raises(InputError, match="no picture number 4"):
        Sessions(tmp_path / "visitors", scenes).begin("me").look_at(3)
    with pytest.raises(InputError, match="no picture yet"):
        Sessions(tmp_path / "others", []).begin("me").look()


def test_a_box_stays_until_another_picture_is_looked_at(
    tmp_path: Path, scenes: list[Picture]
) -> None:
    session = Sessions(tmp_path / "visitors", scenes).begin("me")
    look = session.look()
    with pytest.raises(InputError, match="no box yet"):
        session.box("find", None, look)
    assert session.box("find", Drawn(0, [30, 40, 10, 20]), look) == [10, 20, 30, 40]
    assert session.box("find", None, look) == [10, 20, 30, 40]
    with pytest.raises(InputError, match="no box yet"):
        session.box("name", None, look)
    with pytest.raises(InputError, match="too small"):
        session.box("find", Drawn(0, [1, 1, 2, 2]), look)
    with pytest.raises(InputError, match="no box yet"):
        session.box("find", None, look)
    session.box("find", Drawn(0, [30, 40, 10, 20]), look)
    session.look_at(1)
    with pytest.raises(InputError, match="no box yet"):
        session.box("find", None, session.look())


def test_a_box_belongs_to_the_picture_that_it_was_drawn_on(
    tmp_path: Path, scenes: list[Picture]
) -> None:
    session = Sessions(tmp_path / "visitors", scenes).begin("me")
    before = session.look()
    session.look_at(1)
    for drawn, look in (
        (Drawn(0, [0, 0, 9, 9]), session.look()),  # chosen after it was drawn
        (Drawn(0, [0, 0, 9, 9]), before),  # and after its turn had come
    ):
        with pytest.raises(InputError, match="draw it on the picture that you see"):
            session.box("find", drawn, look)
    with pytest.raises(InputError, match="another picture while scene 1 was being looked at"):
        session.check_looks_at(before)
    session.check_looks_at(session.look())


def test_a_visit_that_never_began_or_has_ended_is_said(
    tmp_path: Path, scenes: list[Picture]
) -> None:
    sessions = Sessions(tmp_path / "visitors", scenes)
    with pytest.raises(InputError, match=r"this visit has ended.*Load the page again"):
        sessions.of("me")
    session = sessions.begin("me")
    sessions.end("me")
    with pytest.raises(InputError, match="this visit has ended"):
        sessions.of("me")
    with pytest.raises(InputError, match="this visit has ended"):
        session.results_folder()


def test_nothing_of_a_visitor_stays_on_the_disk(
    tmp_path: Path, scenes: list[Picture], upload: Path
) -> None:
    sessions = Sessions(tmp_path / "visitors", scenes)
    session = sessions.begin("me")
    arrived = tmp_path / "cache" / "hash" / "mine.png"
    arrived.parent.mkdir(parents=True)
    arrived.write_bytes(upload.read_bytes())
    session.add(arrived)
    session.results_folder()
    with pytest.raises(InputError, match="has not arrived"):
        session.add(tmp_path / "gone.png")
    sessions.end("me")
    assert list((tmp_path / "visitors").iterdir()) == []
    assert list((tmp_path / "cache").iterdir()) == []
    assert scenes[0].path.exists()
    with pytest.raises(InputError, match="this visit has ended"):
        session.add(upload)  # it was on its way
    assert upload.exists()


def test_uploads_at_once_take_no_place_of_each_other(
    tmp_path: Path, scenes: list[Picture], upload: Path
) -> None:
    session = Sessions(tmp_path / "visitors", scenes).begin("me")
    with ThreadPoolExecutor(8) as pool:
        adding = [pool.submit(session.add, upload) for _ in range(MAX_PICTURES + 4)]
    refused = [each for each in adding if each.exception() is not None]
    assert len(refused) == 4
    own = session.look().pictures[len(scenes) :]
    assert len({each.path for each in own}) == MAX_PICTURES
    assert all(each.path.exists() for each in own)


def test_only_the_last_results_are_kept(tmp_path: Path, scenes: list[Picture]) -> None:
    session = Sessions(tmp_path / "visitors", scenes).begin("me")
    folders = [session.results_folder() for _ in range(4)]
    assert [each.exists() for each in folders] == [False, False, True, True]
