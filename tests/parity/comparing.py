"""The originals' numbers, where they are, and the one way to compare with them.

The folder is ``REGIONCLIP_PARITY_DIR``; without it ``../shared/parity`` beside the project; without
that the subset in ``tests/parity/golden``. It has a folder per system, with the arrays of a case in
``goldens/<case>.npz``.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

PROJECT = Path(__file__).parents[2]
PLACES = (PROJECT.parent / "shared" / "parity", PROJECT / "tests" / "parity" / "golden")


@dataclass(frozen=True, slots=True)
class Record:
    """One comparison, for the report."""

    system: str
    case: str
    array: str
    """Perhaps a part of one: ``stats[:12]``."""
    absolute: float
    relative: float
    tolerance: str
    passed: bool


RECORDS: list[Record] = []
"""Everything compared in this process."""


def parity_folder() -> Path:
    """The folder of golden numbers; skips the test where there is none."""
    named = os.environ.get("REGIONCLIP_PARITY_DIR")
    places = (Path(named),) if named else PLACES
    for place in places:
        if (place / "meta.json").is_file():
            return place
    pytest.skip(f"no golden numbers: none of {', '.join(map(str, places))} has a meta.json")


def seed() -> int:
    """What weights and images were made with."""
    return json.loads((parity_folder() / "meta.json").read_text())["seed"]


def module_at(name: str, path: Path) -> ModuleType:
    """Import one of the folder's Python files under a name of its own."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


ValuesFor = Callable[[str, tuple[int, ...], int], np.ndarray]
"""Numbers of a tensor by its name, its shape and a seed."""
REMEMBERED: list[dict[tuple[str, tuple[int, ...], int], np.ndarray]] = []
"""What :func:`remembering` keeps, to be let go of."""


def remembering(values_for: ValuesFor, has: Callable[[str, tuple[int, ...]], bool]) -> ValuesFor:
    """The same, drawn once for all files that have a tensor: to draw is most of a file's time.

    Args:
        values_for: Of ``synthetic_checkpoint.py``.
        has: Whether several files have a tensor of this name and shape.
    """
    known: dict[tuple[str, tuple[int, ...], int], np.ndarray] = {}
    REMEMBERED.append(known)

    def values(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
        if not has(name, shape):
            return values_for(name, shape, seed)
        key = (name, shape, seed)
        if key not in known:
            known[key] = values_for(name, shape, seed)
        return known[key].copy()

    return values


@cache
def golden(system: str, case: str) -> dict[str, np.ndarray]:
    """The arrays of a case; skips the test where the file is not there."""
    path = parity_folder() / system / "goldens" / f"{case}.npz"
    if not path.is_file():
        pytest.skip(f"no golden numbers: {path.name} is not in {path.parent}")
    with np.load(path) as file:
        return dict(file)


def manifest(system: str, name: str) -> dict[str, tuple[list[int], str]]:
    """Names, shapes and precisions of an original file; skips the test where it is not there."""
    path = parity_folder() / system / "manifests" / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"no manifest: {path} is not there")
    return json.loads(path.read_text())


def check(
    system: str,
    case: str,
    array: str,
    ours: Any,
    golden: Any,
    *,
    rtol: float = 1e-4,
    atol: float = 0.0,
) -> None:
    """Compare and record: ``|ours - golden| <= atol + rtol * max |golden|`` everywhere."""
    ours_array = np.asarray(ours, dtype=np.float64)
    golden_array = np.asarray(golden, dtype=np.float64)
    name = f"{system}/{case}/{array}"
    assert ours_array.shape == golden_array.shape, name
    scale = float(np.abs(golden_array).max(initial=0.0))
    absolute = float(np.abs(ours_array - golden_array).max(initial=0.0))
    relative = absolute / scale if scale > 0 else absolute
    tolerance = " + ".join(
        text for value, text in ((rtol, f"{rtol:g} rel"), (atol, f"{atol:g} abs")) if value
    )
    passed = absolute <= atol + rtol * scale
    RECORDS.append(Record(system, case, array, absolute, relative, tolerance or "exact", passed))
    assert passed, f"{name}: off by {absolute:g} (tolerance {tolerance or 'exact'})"
