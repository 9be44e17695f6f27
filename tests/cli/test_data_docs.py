"""The commands that docs/data.md shows for BCCD, on the real data set."""

import shlex
from pathlib import Path

import pytest

from regionclip.cli import main

PROJECT = Path(__file__).parents[2]
BCCD = PROJECT.parent / "shared" / "data" / "bccd"


def commands() -> list[str]:
    lines = (PROJECT / "docs" / "data.md").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("regionclip data ") and "bccd" in line]


def test_commands_of_the_page_on_data_sets_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not BCCD.is_dir():
        pytest.skip(f"a real data set is missing: {BCCD}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bccd").symlink_to(BCCD)
    assert len(commands()) == 6
    for command in commands():
        assert main(shlex.split(command)[1:]) == 0, command
    output = " ".join(capsys.readouterr().out.split())
    assert "292 images (292 opened), 3941 boxes; nothing would be refused" in output
    assert len(list((tmp_path / "splits").iterdir())) == 6
