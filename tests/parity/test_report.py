"""``python -m tests.parity.report``: what it lists, and what it answers to a shell."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.parity import report
from tests.parity.regionclip.golden import Record

PROJECT = Path(__file__).parents[2]


def test_it_lists_each_array_with_its_largest_difference_and_names_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "LATER", {"of_later": "that is not built yet"})
    one = np.zeros(1)
    np.savez(tmp_path / "case.npz", near=one, far=one, boxes=one, forgotten=one)
    np.savez(tmp_path / "rn50_of_later.npz", loss=one)
    records = [
        Record("case", "near", 1e-6, 1e-7, "1e-4 rel", True),
        Record("case", "near", 2e-6, 2e-7, "1e-4 rel", True),
        Record("case", "far", 0.5, 0.1, "exact", False),
        Record("other", "near", 9.0, 9.0, "exact", False),
    ]
    header, *rows = report.report_rows(records, tmp_path)
    assert header == ("case", "array", "verdict", "absolute", "relative", "tolerance")
    assert ("case", "near", "compared", "2.0e-06", "2.0e-07", "1e-4 rel") in rows
    assert ("case", "far", "FAILED", "5.0e-01", "1.0e-01", "exact") in rows
    verdicts = {array: verdict for _, array, verdict, *_ in rows}
    assert verdicts["boxes"] == "input"
    assert verdicts["forgotten"] == "not compared: no test does"
    assert verdicts["loss"] == "not compared: that is not built yet"
    assert len(rows) == 5


@pytest.mark.slow
def test_a_part_of_the_comparisons_ends_well_and_lists_nothing_as_failed() -> None:
    """All of them run in this suite as tests of their own; here one file is enough."""
    command = [sys.executable, "-m", "tests.parity.report", "-k", "test_postprocess"]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    assert "FAILED" not in run.stdout
    summary = json.loads(run.stdout.splitlines()[-1])
    assert summary.keys() == {"compared", "input", "not compared"}
    assert summary["compared"] >= 30


@pytest.mark.slow
def test_a_command_that_compares_nothing_does_not_end_well() -> None:
    command = [sys.executable, "-m", "tests.parity.report", "-k", "nothing_is_called_this"]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert run.returncode != 0
