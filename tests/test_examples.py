import json
import runpy
import sys
from argparse import Namespace
from importlib import import_module
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


@pytest.mark.slow
def test_pretraining_on_icons_leaves_its_tables_and_measures_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--seeds=1",
        "--rows=b",
        "--caption-steps=1",
        "--steps=1",
        "--scenes=60",
        "--test-scenes=2",
        "--transfer-steps=1",
        "--transfer-scenes=8",
        f"--output={tmp_path}",
    ]
    monkeypatch.setattr(sys, "argv", ["pretraining_on_icons.py", *arguments])
    monkeypatch.setitem(TEMPLATES, "imagenet80", TEMPLATES["photo"])
    monkeypatch.syspath_prepend(EXAMPLES.parent)
    runpy.run_module("examples.pretraining_on_icons", run_name="__main__")
    table = (tmp_path / "table.md").read_text()
    assert table.strip() in capsys.readouterr().out
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")]
    models = ["(a) captions alone", "(b) pretrained"]
    after = [f"transfer from {model}" for model in models]
    teacher = "(t) its teacher: the same, on larger scenes"
    assert [row for row in rows if "(" in row] == [models[0], teacher, models[1], *after]

    # what was measured stays, and nothing is measured again
    measured = tmp_path / "b-0.json"
    measured.write_text(json.dumps(json.loads(measured.read_text()) | {"named_all": 0.125}))
    monkeypatch.setattr("regionclip.evaluation.icons.evaluate_icons", None)
    runpy.run_module("examples.pretraining_on_icons", run_name="__main__")
    table = (tmp_path / "table.md").read_text()
    assert "| (b) pretrained | 1 | 12.5 |" in table

    # and is not taken for what other settings would give
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--transfer-steps=2"])
    with pytest.raises(SystemExit, match="--transfer-steps was 1, and is 2; choose another folder"):
        runpy.run_module("examples.pretraining_on_icons", run_name="__main__")
    assert (tmp_path / "table.md").read_text() == table


@pytest.mark.slow
def test_cora_on_icons_leaves_its_tables_and_measures_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = (
        *("clip", "prompt", "told", "untold", "unmatched"),
        *("rpn", "rpn-prompt", "transfer", "reach"),
    )
    arguments = ["--prompt-steps=1", "--steps=1", "--scenes=8", "--rows", *known]
    monkeypatch.setattr(
        sys, "argv", ["cora_on_icons.py", "--seeds=1", f"--output={tmp_path}", *arguments]
    )
    monkeypatch.syspath_prepend(EXAMPLES.parent)
    module = runpy.run_module("examples.cora_on_icons", run_name="__main__")
    table = (tmp_path / "table.md").read_text()
    assert table.strip() in capsys.readouterr().out
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")]
    titles = module["NAMING"] | module["DETECTION"] | module["REACH"]
    tables = [each for each in rows if each in titles.values()]
    assert tables == [titles[row] for row in known]

    # what was measured stays, and nothing is trained again
    measured = tmp_path / "told-0.json"
    measured.write_text(json.dumps(json.loads(measured.read_text()) | {"ap50_novel": 0.125}))
    monkeypatch.setattr("regionclip.train.train", None)
    runpy.run_module("examples.cora_on_icons", run_name="__main__")
    table = (tmp_path / "table.md").read_text()
    (row,) = [line for line in table.splitlines() if line.startswith(f"| {titles['told']} |")]
    assert "| 12.5 |" in row

    # and is not taken for what other settings would give
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--prompt-steps=2"])
    with pytest.raises(SystemExit, match="--prompt-steps was 1, and is 2; choose another folder"):
        runpy.run_module("examples.cora_on_icons", run_name="__main__")
    assert (tmp_path / "table.md").read_text() == table


@pytest.mark.slow
def test_clipself_on_icons_leaves_its_tables_and_measures_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ("patches", "mosaics")
    steps = ("--caption-steps=1", "--steps=1", "--detector-steps=1")
    sizes = ("--scenes=8", "--captioned=64", "--side=64")
    arguments = ["--seeds=1", *steps, *sizes, f"--output={tmp_path}", "--rows", *rows]
    monkeypatch.setattr(sys, "argv", ["clipself_on_icons.py", *arguments])
    monkeypatch.syspath_prepend(EXAMPLES.parent)
    module = runpy.run_module("examples.clipself_on_icons", run_name="__main__")
    table = (tmp_path / "table.md").read_text()
    assert table.strip() in capsys.readouterr().out
    titles = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("|")]
    own = [module["TITLES"][row] for row in rows]
    assert [each for each in titles if each in module["TITLES"].values()] == own * 2

    # what was measured stays, and nothing is trained again
    measured = tmp_path / "mosaics-0.json"
    measured.write_text(json.dumps(json.loads(measured.read_text()) | {"box_all": 0.125}))
    monkeypatch.setattr("regionclip.train.train", None)
    runpy.run_module("examples.clipself_on_icons", run_name="__main__")
    assert f"| {module['TITLES']['mosaics']} | 1 | 12.5 |" in (tmp_path / "table.md").read_text()


def test_a_study_is_gone_on_with_unless_its_figures_would_be_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES.parent)
    study = import_module("examples.measured_once")
    options = Namespace(output=tmp_path / "made", seeds=1, rows="b", steps=7, start=Path("a.pth"))
    study.claim(options, free=["rows"])
    study.claim(Namespace(**vars(options) | {"seeds": 3, "rows": "bc"}), free=["rows"])
    with pytest.raises(SystemExit, match=r"made holds .* --start was a.pth, and is None; choose"):
        study.claim(Namespace(**vars(options) | {"start": None}), free=["rows"])
    figures = [{"share": 0.25}, {"share": 0.75}]
    assert study.table_of("row", {"one": figures, "none": []}, {"found": "share"}) == [
        "| row | seeds | found |",
        "|---|---|---|",
        "| one | 2 | 50.0 ± 35.4 |",
    ]
