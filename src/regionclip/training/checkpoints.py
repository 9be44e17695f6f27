"""A stage's state on disk, written whole or not at all, so that a run can be killed at any time."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from regionclip.whole_files import replacing

from .logs import FILE as LOG_FILE

NOTE = "recipe.json"
CHECKPOINTS = "checkpoints"
MODEL, BEST, ENSEMBLE = "model.safetensors", "best.safetensors", "ensemble.safetensors"
"""Weights at the end of a run, the best by its metric, and those between start and end."""


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Replace a checkpoint by a new one; whoever is killed in between leaves the old one.

    Args:
        path: Its folder is made.
        state: Tensors and plain data.
    """
    with replacing(path) as partial:
        torch.save(dict(state), partial)


def load_state(path: Path) -> dict[str, Any] | None:
    """What :func:`save_state` wrote, on the CPU; ``None`` if there is nothing.

    Raises:
        ValueError: The file is damaged.
    """
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, KeyError, OSError) as error:
        raise ValueError(
            f"{path} is damaged and cannot be resumed from ({error}); remove it to begin its stage "
            "anew"
        ) from error


def check_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a folder that holds another recipe's run.

    Args:
        folder: May be missing.
        settings: All that the run depends on, as plain data.

    Raises:
        ValueError: Nothing could go on from what is there.
    """
    note = folder / NOTE
    if not note.exists():
        return
    then, now = json.loads(note.read_text(encoding="utf-8")), json.loads(json.dumps(settings))
    if then != now:
        raise ValueError(
            f"{folder} holds a run of another recipe ({_first_difference(then, now)}); begin anew "
            "(--no-resume deletes it), or choose another folder"
        )


def claim_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Note whose run a folder holds, so that no other recipe goes on from its checkpoints.

    Args:
        folder: Made if it is not there.
        settings: As :func:`check_folder` takes them.

    Raises:
        ValueError: The folder holds another recipe's run.
    """
    check_folder(folder, settings)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NOTE).write_text(json.dumps(settings, indent=1), encoding="utf-8")


def remove_run(folder: Path) -> None:
    """Delete what a run has written into a folder, and nothing else; no run, nothing deleted."""
    if not (folder / NOTE).exists():
        return
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)
    for name in (MODEL, BEST, ENSEMBLE, LOG_FILE, NOTE):
        (folder / name).unlink(missing_ok=True)


def _first_difference(then: Any, now: Any, path: str = "") -> str:
    if isinstance(then, dict) and isinstance(now, dict):
        for name in [*now, *then]:
            if then.get(name) != now.get(name):
                inner = f"{path}.{name}" if path else name
                return _first_difference(then.get(name), now.get(name), inner)
    return f"{path} was {then!r}, now {now!r}"
