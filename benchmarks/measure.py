"""What all benchmarks share: the machine in words, timing, and a table of rows."""

import ctypes
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
PROC_SELF = Path("/proc/self")
PROC_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, kw_only=True)
class Report:
    """One benchmark's outcome.

    Attributes:
        name: File name of the results, without extension.
        title: What was compared, on what input.
        rows: Cells by column name; all rows have the same columns.
        notes: Sentences under the table.
        targets: Sentences that name a figure to reach, and whether it was.
    """

    name: str
    title: str
    rows: Sequence[Mapping[str, str]]
    notes: Sequence[str] = ()
    targets: Mapping[str, bool] = field(default_factory=dict)


class SkippedError(RuntimeError):
    """A comparison cannot run here; the message says what it lacks."""


def machine(device: torch.device) -> dict[str, Any]:
    """What figures depend on besides the code."""
    described: dict[str, Any] = {
        "processor": _processor(),
        "threads": f"{torch.get_num_threads()} threads",
        "torch": f"torch {torch.__version__}",
        "python": f"Python {platform.python_version()}",
        "load": f"load average {os.getloadavg()[0]:.1f} at the end",
    }
    if device.type == "cuda":
        described["gpu"] = torch.cuda.get_device_name(device)
    return described


@dataclass(frozen=True)
class Timing:
    """Medians over the repeats of one function."""

    seconds: float
    """Wall time."""
    busy_cores: float
    """Processor time over wall time: below the number of threads, others used the machine."""


def interleaved(
    functions: Mapping[str, Callable[[], Any]],
    *,
    repeats: int,
    device: torch.device,
    warm_up: int = 1,
) -> dict[str, Timing]:
    """Time functions in turns, after ``warm_up`` runs of each.

    What else the machine does then falls on all of them alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    cores: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + warm_up):
        for name, function in functions.items():
            synchronize(device)
            start, busy_start = time.perf_counter(), time.process_time()
            function()
            synchronize(device)
            elapsed = time.perf_counter() - start
            if repeat >= warm_up:
                seconds[name].append(elapsed)
                cores[name].append((time.process_time() - busy_start) / elapsed)
    return {name: Timing(median(seconds[name]), median(cores[name])) for name in functions}


def synchronize(device: torch.device) -> None:
    """Wait for a GPU's queue; nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_flops_per_second(dtype: torch.dtype, device: torch.device, *, size: int = 4096) -> float:
    """The rate of one large matrix product: what the machine can reach, 2 per multiply-add."""
    first = torch.randn(size, size // 2, device=device).to(dtype)
    second = torch.randn(size // 2, size, device=device).to(dtype)
    # the best of many, for a peak: single short runs, each with a chance of a quiet machine
    runs = [interleaved({"": lambda: first @ second}, repeats=1, device=device) for _ in range(8)]
    return 2 * first.numel() * size / min(run[""].seconds for run in runs)


def peak_megabytes(function: Callable[[], Any], device: torch.device) -> tuple[float, float]:
    """Memory before a call, and the highest during it.

    On a GPU that of tensors; on a CPU that of the whole process, which needs Linux's ``/proc``
    and is not a number elsewhere.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device) / 1e6
        function()
        return before, torch.cuda.max_memory_allocated(device) / 1e6
    if not PROC_SELF.exists():
        return float("nan"), float("nan")
    _return_free_memory()
    (PROC_SELF / "clear_refs").write_text("5")  # resets VmHWM to the present size, see proc(5)
    before = _status_megabytes("VmRSS")
    function()
    return before, _status_megabytes("VmHWM")


def _return_free_memory() -> None:
    """Hand back what earlier calls freed: the C library keeps it, and a peak would hide in it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


def _status_megabytes(field_name: str) -> float:
    lines = (PROC_SELF / "status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(field_name + ":")]
    return int(line.split()[1]) * 1024 / 1e6


def publish(report: Report, device: torch.device, command: str) -> None:
    """Print a report, and write it under ``results/`` as JSON and Markdown."""
    described = machine(device)
    console = Console()
    table = Table(*report.rows[0], title=report.title)
    for row in report.rows:
        table.add_row(*row.values())
    console.print(table)
    console.print(f"{command} on {_in_words(described)}", markup=False)
    marks = [
        f"{'reached' if met else 'NOT reached'}: {text}" for text, met in report.targets.items()
    ]
    for line in (*report.notes, *marks):
        console.print(line)
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / f"{report.name}-{device.type}"
    content = {"command": command, "machine": described, "title": report.title}
    content |= {"rows": list(report.rows), "notes": list(report.notes), "targets": report.targets}
    stem.with_suffix(".json").write_text(json.dumps(content, indent=2) + "\n")
    stem.with_suffix(".md").write_text(_markdown(report, marks, described, command))


def _markdown(
    report: Report, marks: Sequence[str], described: Mapping[str, Any], command: str
) -> str:
    lines = [f"# {report.title}", "", f"`{command}` on {_in_words(described)}"]
    lines += ["", "| " + " | ".join(report.rows[0]) + " |", "|---" * len(report.rows[0]) + "|"]
    lines += ["| " + " | ".join(row.values()) + " |" for row in report.rows]
    return "\n".join([*lines, "", *(f"- {line}" for line in (*report.notes, *marks))]) + "\n"


def _in_words(described: Mapping[str, Any]) -> str:
    return ", ".join(map(str, described.values()))


FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16", "i8mm")
"""Instructions that matrix products run on, as Linux calls them on x86 and ARM."""


def _processor() -> str:
    """The processor's name, number of cores, and instructions for fast matrix products."""
    facts = PROC_CPUINFO.read_text() if PROC_CPUINFO.exists() else ""
    names = [line.split(":")[1].strip() for line in facts.splitlines() if "model name" in line]
    words = set(facts.split())
    features = [feature for feature in FEATURES if feature in words]
    name = names[0] if names else platform.processor() or platform.machine()
    return " ".join([name, f"({os.cpu_count()} cores)", *features])
