"""The originals' numbers, where they are, and the one way to compare with them.

The folder is ``REGIONCLIP_PARITY_DIR``; without it ``../shared/parity`` beside the project; without
that the subset in ``tests/parity/golden``. Weights and images follow the seed in its ``meta.json``.
"""

import importlib.util
import json
import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_iou

from regionclip.structures import Detections

PROJECT = Path(__file__).parents[3]
PLACES = (PROJECT.parent / "shared" / "parity", PROJECT / "tests" / "parity" / "golden")


@dataclass(frozen=True, slots=True)
class Record:
    """One comparison, for the report."""

    case: str
    array: str
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


@cache
def inputs() -> ModuleType:
    """The folder's ``golden_inputs.py``: builds checkpoints, boxes and embeddings."""
    return _module("golden_inputs", parity_folder() / "regionclip" / "golden_inputs.py")


def image(height: int, width: int, *, seed_offset: int = 0) -> np.ndarray:
    """The deterministic ``uint8`` RGB picture of a case."""
    return inputs().sc.image(height, width, seed() + seed_offset)


def pixels(height: int, width: int, *, seed_offset: int = 0) -> torch.Tensor:
    """The same as ``(3, H, W)`` in [0, 1]."""
    array = image(height, width, seed_offset=seed_offset)
    return torch.from_numpy(array).permute(2, 0, 1).float() / 255


@cache
def golden(case: str) -> dict[str, np.ndarray]:
    """Arrays of ``goldens/<case>.npz``; skips the test where the file is not there."""
    path = parity_folder() / "regionclip" / "goldens" / f"{case}.npz"
    if not path.is_file():
        pytest.skip(f"no golden numbers: {path.name} is not in {path.parent}")
    with np.load(path) as file:
        return dict(file)


def checkpoint(name: str, **kwargs: Any) -> dict[str, torch.Tensor]:
    """Stand-in weights in the layout of an original file; see ``golden_inputs.checkpoint``."""
    return inputs().checkpoint(name, seed(), **kwargs)


def check(
    case: str, array: str, ours: Any, golden: Any, *, rtol: float = 1e-4, atol: float = 0.0
) -> None:
    """Compare and record: ``|ours - golden| <= atol + rtol * max |golden|`` everywhere."""
    ours_array = np.asarray(ours, dtype=np.float64)
    golden_array = np.asarray(golden, dtype=np.float64)
    assert ours_array.shape == golden_array.shape, f"{case}/{array}"
    scale = float(np.abs(golden_array).max(initial=0.0))
    absolute = float(np.abs(ours_array - golden_array).max(initial=0.0))
    relative = absolute / scale if scale > 0 else absolute
    tolerance = " + ".join(
        text for value, text in ((rtol, f"{rtol:g} rel"), (atol, f"{atol:g} abs")) if value
    )
    passed = absolute <= atol + rtol * scale
    RECORDS.append(Record(case, array, absolute, relative, tolerance or "exact", passed))
    assert passed, f"{case}/{array}: off by {absolute:g} (tolerance {tolerance or 'exact'})"


def stats(tensor: torch.Tensor) -> np.ndarray:
    """``*_stats`` arrays: mean, unbiased standard deviation, L2 norm, smallest, largest."""
    flat = tensor.detach().double().flatten()
    return np.array([flat.mean(), flat.std(), flat.norm(), flat.min(), flat.max()])


def _module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def check_detections(
    case: str, ours: Detections, golden: dict[str, np.ndarray], *, max_score_error: float = 1e-3
) -> tuple[np.ndarray, np.ndarray]:
    """Compare as matched sets: equal class, equal box, scores close.

    Boxes are equal when their IoU is above 0.99 or no corner is off by 0.02 px: a proposal that
    clipping left 0.004 px high has no IoU to speak of.

    Scores nearer to each other than float32's noise may be cut differently at the end of the
    list, so rows within ``max_score_error`` of the lowest score may lack a partner.

    Returns:
        Rows of the golden detections, and the rows of ours that they are; in most runs the same.
    """
    boxes, scores = torch.from_numpy(golden["boxes"]), torch.from_numpy(golden["scores"])
    labels = torch.from_numpy(golden["classes"])
    assert len(ours) == len(boxes), f"{case}: {len(ours)} detections, expected {len(boxes)}"
    same_class = labels[:, None] == ours.labels[None]
    close = (scores[:, None] - ours.scores[None]).abs() < max_score_error
    same_corners = (boxes[:, None] - ours.boxes[None]).abs().amax(dim=2) < 0.02
    possible = same_class & close & (same_corners | (box_iou(boxes, ours.boxes) > 0.99))
    rows, partners = linear_sum_assignment(-possible.numpy().astype(int))
    paired = possible[rows, partners].numpy()
    at_the_cut = (scores < scores.min() + max_score_error).numpy()
    assert (paired | at_the_cut[rows]).all(), f"{case}: {(~paired).sum()} without partner"
    rows, partners = rows[paired], partners[paired]
    check(case, "classes", ours.labels[partners], labels[rows], rtol=0.0)
    check(case, "scores", ours.scores[partners], scores[rows], rtol=0.0, atol=max_score_error)
    check(case, "boxes", ours.boxes[partners], boxes[rows], rtol=0.0, atol=0.02)
    return rows, partners
