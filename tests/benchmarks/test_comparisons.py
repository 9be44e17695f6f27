"""Each comparison runs, on a model and a picture made small, and finds both sides alike."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from benchmarks import data_loading, end_to_end, region_head, text, training_step
from benchmarks.measure import Report

from tests.tiny import TINY_CONFIG
from tests.tiny_clip import TINY

CPU = torch.device("cpu")
NAMES = ("cat", "remote control", "dog", "cup", "mug")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (region_head, end_to_end, training_step):
        monkeypatch.setattr(module, "IMAGE_HW", (96, 144))
    for module in (region_head, text, training_step):
        # regions as large as RN50's, in bins
        monkeypatch.setattr(module, "SPECS", {"RN50": replace(TINY, image_size=224)})
    monkeypatch.setattr(end_to_end, "VARIANTS", {"cc-rn50": TINY_CONFIG})
    peak = partial(end_to_end.matmul_flops_per_second, size=64)
    monkeypatch.setattr(end_to_end, "matmul_flops_per_second", peak)
    monkeypatch.setattr(region_head, "NUM_CLASSES", len(NAMES))
    for module in (end_to_end, text):
        monkeypatch.setattr(module, "builtin_names", lambda _: NAMES)
    monkeypatch.setattr(data_loading, "NUM_FILES", 1)
    monkeypatch.setattr(training_step, "NUM_WORKERS", 0)
    monkeypatch.setattr(training_step, "READERS", {0: "in one process"})


def rows_of(report: Report, column: str) -> dict[str, Mapping[str, Any]]:
    return {row[column]: row for row in report.rows}


@torch.inference_mode()
def test_region_vectors() -> None:
    rows = rows_of(region_head.run(num_regions=7, repeats=1, device=CPU), "region head")
    assert rows["plain fp32"]["ratio"] == "1.00"
    assert float(rows["ours fp32"]["relative difference"]) < 1e-5
    assert 0 < float(rows["ours bf16"]["relative difference"]) < 0.1


@torch.inference_mode()
def test_class_embeddings() -> None:
    report = text.run(num_names=2, repeats=1, device=CPU)
    assert float(report.notes[0].removeprefix("relative difference ")) < 1e-5
    assert [row["class embeddings"] for row in report.rows][1] == "ours"
    ours = text.run_all(num_names=2, device=CPU).rows[1]
    assert ours["class embeddings"] == f"ours, all {len(NAMES)} classes"


@torch.inference_mode()
def test_a_whole_detection() -> None:
    report = end_to_end.run(num_regions=20, repeats=1, device=CPU)
    stages = [row["stage"] for row in report.rows if row["regions"] == "all, float32"]
    assert stages == ["proposals", "map", "region vectors (20)", "scores, NMS, output", "total"]
    assert all(float(row["seconds"]) > 0 for row in report.rows if row["stage"] == "total")


def test_a_training_step() -> None:
    report = training_step.run(num_regions=16, num_loaded=1, repeats=1, device=CPU)
    rows = rows_of(report, "training step")
    for way in ("ours fp32", "ours fp32, regions twice"):
        assert float(rows[way]["losses off by"]) < 1e-5
        assert float(rows[way]["gradients off by"]) < 1e-4
    assert 0 < float(rows["ours bf16"]["gradients off by"]) < 0.5
