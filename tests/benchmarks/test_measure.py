import json
import os
from pathlib import Path

import pytest
import torch
from benchmarks import measure
from benchmarks.measure import Report, interleaved, machine, publish

CPU = torch.device("cpu")
INTEL = """\
processor : 0
model name : A Fast Processor
flags : fpu avx2 avx512f amx_bf16
processor : 1
model name : A Fast Processor
flags : fpu avx2 avx512f amx_bf16
"""


def test_a_machine_is_its_processor_with_cores_and_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "PROC_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    (tmp_path / "cpuinfo").write_text(INTEL)
    described = machine(CPU)
    assert described["processor"] == "A Fast Processor (2 cores) avx2 avx512f amx_bf16"
    assert described["threads"] == f"{torch.get_num_threads()} threads"
    assert torch.__version__ in described["torch"]
    (tmp_path / "cpuinfo").unlink()  # as on macOS
    assert "(2 cores)" in machine(CPU)["processor"]


def test_a_published_report_names_machine_and_command_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    monkeypatch.setattr(measure, "_processor", lambda: "processor X (2 cores)")
    report = Report(name="a", title="A", rows=[{"way": "ours"}], targets={"fast": True})
    publish(report, CPU, "python -m benchmarks --only a")
    printed = " ".join(capsys.readouterr().out.split())
    written = json.loads((tmp_path / "a-cpu.json").read_text())
    assert written["machine"]["processor"] == "processor X (2 cores)"
    for text in (printed, (tmp_path / "a-cpu.md").read_text()):
        assert "python -m benchmarks --only a" in text
        assert "processor X (2 cores)" in text
        assert "reached: fast" in text


def test_functions_are_timed_in_turns_after_warming_up() -> None:
    order: list[str] = []
    functions = {name: lambda name=name: order.append(name) for name in "ab"}
    assert interleaved(functions, repeats=2, device=CPU).keys() == {"a", "b"}
    assert "".join(order) == "ababab"
    order.clear()
    interleaved(functions, repeats=1, warm_up=0, device=CPU)
    assert "".join(order) == "ab"
