import runpy
import sys
from pathlib import Path

import pytest

from regionclip.concepts.templates import TEMPLATES

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
def test_forgetting_on_icons_leaves_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--seeds=1",
        "--steps=1",
        "--scenes=8",
        "--weather-scenes=2",
        f"--output={tmp_path}",
    ]
    monkeypatch.setattr(sys, "argv", ["forgetting_on_icons.py", *arguments])
    monkeypatch.setattr("regionclip.data.icons.DOMAINS", ("day",))
    # what takes most of the time, and is nothing that the script does
    monkeypatch.setitem(TEMPLATES, "imagenet80", TEMPLATES["photo"])
    runpy.run_path(str(EXAMPLES / "forgetting_on_icons.py"), run_name="__main__")
    table = (tmp_path / "table.md").read_text()
    assert table.strip() == capsys.readouterr().out.strip()
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")]
    assert "before fine-tuning" in rows
    assert "focal scaling 0.5" in rows
    assert rows[-1] == "day"
