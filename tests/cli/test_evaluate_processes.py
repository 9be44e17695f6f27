"""Two processes give the figures of one, and go on after one of them is killed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from regionclip.cli import main
from tests.processes import run_command, started_together

from .test_evaluate_data import write_set

OPTIONS = (
    *("--boxes", "truth", "--device", "cpu", "--templates", "none", "--min-score", "0"),
    *("--batch-size", "2", "--output"),
)
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


def arguments(model: str, data: Path, output: str) -> list[str]:
    return ["evaluate", model, "--data", str(data), *OPTIONS, output]


def report(output: str) -> dict:
    return json.loads((Path(output) / "report.json").read_text())


def num_done(journal: Path) -> int:
    return journal.read_text().count("\n") - 1 if journal.exists() else 0


@pytest.mark.slow
def test_two_processes_give_the_report_of_one(workspace: Path, model_file: str) -> None:
    data = write_set(Path("set/val.json"), num_images=11)
    Path("set/3.png").write_bytes(b"no image")  # the second process meets it
    assert main(arguments(model_file, data, "one")) == 1
    two = subprocess.run(
        [sys.executable, *TORCHRUN, "-m", "regionclip", *arguments(model_file, data, "two")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert two.returncode == 1
    assert "set/3.png: is not an image" in two.stderr
    assert report("one") == report("two")
    assert 0 < report("one")["metrics"]["ap"] < 1
    assert two.stdout.count("coco on set/val.json") == 1
    assert [path.name for path in Path("two").glob("*.jsonl")] == ["detections.jsonl"]
    assert num_done(Path("two/detections.jsonl")) == 10


@pytest.mark.slow
def test_a_killed_process_loses_nothing_that_was_done(workspace: Path, model_file: str) -> None:
    data = write_set(Path("set/val.json"), num_images=200)
    part = Path("two/detections.1.jsonl")
    command = (run_command, *arguments(model_file, data, "two"))
    with started_together(*command, logs=Path("logs")) as both:
        deadline = time.monotonic() + 200
        while num_done(part) < 5 and both[1].is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        both[1].kill()
        for each in both:
            each.join(timeout=200)
        assert both[0].exitcode == 2
    said = Path("logs/0.log").read_text()
    assert "error: another process of this evaluation ended before its time" in said
    before = num_done(part)
    assert before >= 5
    assert num_done(Path("two/detections.jsonl")) == 100
    assert main(arguments(model_file, data, "two")) == 0
    assert not part.exists()
    assert main(arguments(model_file, data, "one")) == 0
    assert report("one") == report("two")
