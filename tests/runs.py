"""Training runs from outside: what they wrote, and several processes of which one is killed."""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep

import torch
from safetensors.torch import load_file

TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node=2")


def entries(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder: Path, stage: str) -> list[float]:
    return [each["loss"] for each in entries(folder) if each["stage"] == stage and "loss" in each]


def training(recipe: Path, output: Path) -> tuple[str, ...]:
    """Arguments of the command line."""
    return ("train", str(recipe), "--output", str(output), "--device", "cpu")


def command(launcher: Sequence[str], recipe: Path, output: Path) -> list[str]:
    return [sys.executable, "-m", *launcher, "-m", "regionclip", *training(recipe, output)]


def run_until_killed(words: Sequence[str], checkpoint: Path) -> None:
    """Start a launcher, and kill one of its processes once there is a checkpoint."""
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    give_up = monotonic() + 150
    while not checkpoint.exists() and running.poll() is None and monotonic() < give_up:
        sleep(0.02)
    # one of the two, the hard way; the launcher then stops the other
    children = subprocess.run(
        ["pgrep", "-P", str(running.pid)], capture_output=True, text=True, check=False
    )
    if children.stdout:
        subprocess.run(["kill", f"-{signal.SIGKILL}", children.stdout.split()[0]], check=False)
    running.wait(timeout=120)
    assert checkpoint.exists()


def assert_same_weights(run: Path, other: Path) -> None:
    own, its = (load_file(folder / "model.safetensors") for folder in (run, other))
    for name, tensor in own.items():
        torch.testing.assert_close(its[name], tensor, rtol=1e-3, atol=1e-5, msg=name)
