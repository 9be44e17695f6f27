from pathlib import Path

import pytest

from regionclip.whole_files import new_folder, replacing


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


def test_a_new_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a" / "b") as folder:
        (folder / "file").write_text("whole")
        assert not (tmp_path / "a" / "b").exists()
    assert (tmp_path / "a" / "b" / "file").read_text() == "whole"
    with pytest.raises(KeyError), new_folder(tmp_path / "a" / "c"):
        raise KeyError
    assert [each.name for each in (tmp_path / "a").iterdir()] == ["b"]
