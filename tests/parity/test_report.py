"""``python -m tests.parity.report``: what it lists, and what it answers to a shell."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.parity import report
from tests.parity.comparing import Record

PROJECT = Path(__file__).parents[2]


def test_it_lists_each_array_with_its_largest_difference_and_names_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "INPUTS", {"ours": ("boxes", "img*_labels")})
    monkeypatch.setattr(report, "NOT_COMPARED", {"ours/*_of_later/*": "that is not built yet"})
    one = np.zeros(1)
    for system in ("ours", "other", "untested"):
        (tmp_path / system / "goldens").mkdir(parents=True)
    goldens = tmp_path / "ours" / "goldens"
    arrays = ("near", "far", "half", "boxes", "img3_labels", "forgotten")
    np.savez(goldens / "case.npz", **dict.fromkeys(arrays, one))
    np.savez(goldens / "rn50_of_later.npz", loss=one)
    np.savez(tmp_path / "other" / "goldens" / "case.npz", near=one, boxes=one)
    np.savez(tmp_path / "untested" / "goldens" / "case.npz", near=one)
    records = [
        Record("ours", "case", "near", 1e-6, 1e-7, "1e-4 rel", True),
        Record("ours", "case", "near[1:]", 2e-6, 2e-7, "1e-4 rel", True),
        Record("ours", "case", "far", 0.5, 0.1, "exact", False),
        Record("ours", "case", "half[:4]", 1e-6, 1e-7, "1e-4 rel", True),
        Record("ours", "case", "half[4]", 1e-9, 1e-9, "1e-4 rel", True),
        Record("ours", "elsewhere", "near", 9.0, 9.0, "exact", False),
    ]
    header, *rows = report.report_rows(records, tmp_path, ["ours", "other"])
    assert header == ("system", "case", "array", "verdict", "absolute", "relative", "tolerance")
    assert ("ours", "case", "near", "compared", "2.0e-06", "2.0e-07", "1e-4 rel") in rows
    assert ("ours", "case", "far", "FAILED", "5.0e-01", "1.0e-01", "exact") in rows
    verdicts = {(system, array): verdict for system, _, array, verdict, *_ in rows}
    assert verdicts["ours", "half"] == "compared: [:4] [4]"
    assert verdicts["ours", "boxes"] == verdicts["ours", "img3_labels"] == "input"
    assert verdicts["ours", "forgotten"] == "not compared: no test does"
    assert verdicts["ours", "loss"] == "not compared: that is not built yet"
    # what is compared of one system, or an input of it, says nothing about another
    assert verdicts["other", "near"] == verdicts["other", "boxes"] == "not compared: no test does"
    assert len(rows) == 9


def test_every_system_with_comparisons_is_listed() -> None:
    assert {"regionclip", "cora"} <= set(report.tested_systems())


@pytest.mark.slow
def test_a_part_of_the_comparisons_ends_well_and_lists_nothing_as_failed() -> None:
    """All of them run in this suite as tests of their own; here one file is enough."""
    command = [
        sys.executable,
        "-m",
        "tests.parity.report",
        "-k",
        "test_postprocess or test_evaluator",
        # what is imported takes longer than what is compared
        "--ignore-glob=*/test_[!pe]*",
        "--ignore-glob=*/test_?[!ov]*",
    ]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    assert "FAILED" not in run.stdout
    summary = json.loads(run.stdout.splitlines()[-1])
    assert summary.keys() == {"compared", "input", "not compared"}
    assert summary["compared"] >= 30
    rows = [line.split() for line in run.stdout.splitlines()]
    verdict_of = {tuple(row[:3]): row[3] for row in rows if len(row) > 3}
    assert verdict_of["cora", "evaluator", "stats"] == "compared:"  # in parts
    assert verdict_of["cora", "evaluator", "gt_json"] == "input"


def test_all_comparisons_do_not_end_well_while_an_array_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pytest, "main", lambda _: pytest.ExitCode.OK)
    header = ("system", "case", "array", "verdict", "", "", "")
    for reason, status in ((report.FORGOTTEN, 1), ("not compared: not built yet", 0)):
        rows = [header, ("ours", "case", "loss", reason, "", "", "")]
        monkeypatch.setattr(report, "report_rows", lambda *_, rows=rows: iter(rows))
        assert report.main([]) == status
        assert report.main(["-k", "other"]) == 0


def test_a_command_that_compares_nothing_does_not_end_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest, "main", lambda _: pytest.ExitCode.NO_TESTS_COLLECTED)
    assert report.main(["-k", "nothing_is_called_this"]) == pytest.ExitCode.NO_TESTS_COLLECTED
