"""Training runs from outside: how they are started, and what they wrote."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file


def entries(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder: Path, stage: str) -> list[float]:
    return [each["loss"] for each in entries(folder) if each["stage"] == stage and "loss" in each]


def training(recipe: Path, output: Path) -> tuple[str, ...]:
    """Arguments of the command line."""
    return ("train", str(recipe), "--output", str(output), "--device", "cpu")


def command(launcher: Sequence[str], recipe: Path, output: Path) -> list[str]:
    return [sys.executable, "-m", *launcher, "-m", "regionclip", *training(recipe, output)]


def assert_same_weights(run: Path, other: Path) -> None:
    own, its = (load_file(folder / "model.safetensors") for folder in (run, other))
    for name, tensor in own.items():
        torch.testing.assert_close(its[name], tensor, rtol=1e-3, atol=1e-5, msg=name)
