"""One flat ``{name: tensor}`` out of a file of any of the field's formats."""

import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from .archives import (
    ForbiddenNameError,
    NumpyType,
    PlainSettings,
    forget_number,
    read_numpy_pickle,
    read_torchscript,
)
from .errors import CheckpointError

BARE_TENSOR = "tensor"
"""The name given to the only tensor of a file that holds one without a name."""

_WRAPPERS = ("model_ema", "model", "module", "state_dict")
"""Entries under which training programs keep the weights, beside optimizer and counters; averaged
ones come first, since they are what such programs measure."""
_LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickled number 0x1950a86a20f9469cfc6c, with which ``torch.save`` began before PyTorch 1.6."""

CheckpointFormat = Literal["safetensors", "npy", "zip", "legacy", "pickle"]
_STARTS: tuple[tuple[bytes, CheckpointFormat], ...] = (
    (b"\x93NUMPY", "npy"),
    (b"PK\x03\x04", "zip"),
    (_LEGACY_TORCH, "legacy"),
    (b"\x80", "pickle"),
)
"""``zip`` is torch's own and TorchScript's, ``legacy`` torch's before PyTorch 1.6."""


def checkpoint_format(path: str | Path) -> CheckpointFormat | None:
    """The kind of a file by its first bytes; ``None`` for one that is no checkpoint.

    Text in UTF-8, a Parquet file or an ONNX model is never taken for one.

    Raises:
        CheckpointError: The file is missing, a folder, empty, or stands for one that was not
            downloaded (a web page, a Git LFS pointer).
    """
    return _format_of(_first_bytes(Path(path)))


def _format_of(start: bytes) -> CheckpointFormat | None:
    # safetensors: the header's length in eight bytes, less than 4 GB, then the header, a json
    if start[8:9] == b"{" and start[4:7] == bytes(3):
        return "safetensors"
    return next((name for prefix, name in _STARTS if start.startswith(prefix)), None)


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint, whatever its format and whatever its name.

    Understood are ``torch.save`` files (old and new), TorchScript archives, safetensors, numpy's
    ``.npy`` and detectron2's pickles of numpy arrays. No file can run code. The weights are found
    under ``model_ema`` (the average over training), ``model``, ``module`` or ``state_dict``, the
    first that there is; optimizer, counters, settings and whatever else is no tensor are left out,
    and a ``module.`` in front of every name is removed.

    Args:
        path: A file.

    Returns:
        Tensors on the CPU as they are stored, by name; a single tensor without a name comes under
        :data:`BARE_TENSOR`. They may be views into the file, so read-only in spirit.

    Raises:
        CheckpointError: The file is missing, empty, truncated, of no known format, holds no
            tensors, or names Python objects other than tensors and containers.
    """
    path = Path(path)
    read = _reader_of(path)
    try:
        content = read(path)
    except ForbiddenNameError as error:
        raise _refused(path, error.name) from error
    except Exception as error:  # a damaged file fails anywhere inside its parser
        forbidden = re.search(r"GLOBAL (\w+(?:\.\w+)+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and forbidden:
            raise _refused(path, forbidden[1]) from error
        raise CheckpointError(
            f"{path} is damaged or incomplete ({_first_line(error)}); download or copy it again"
        ) from error
    return _state_dict_of(content, path)


def read_training_settings(path: str | Path) -> Mapping[str, str | float | None]:
    """Read the settings that a training program kept beside its weights, under ``args``.

    Args:
        path: A file that :func:`read_checkpoint` reads.

    Returns:
        Those that are text, numbers or nothing, by name; none of a file that has no such entry or
        is no archive of ``torch.save``.
    """
    path = Path(path)
    if checkpoint_format(path) != "zip" or _is_torchscript(path):
        return {}
    content = _read_torch(path, mmap=True)  # the weights stay on the disk
    settings = content.get("args") if isinstance(content, Mapping) else None
    return settings.by_name if isinstance(settings, PlainSettings) else {}


def _first_bytes(path: Path) -> bytes:
    """The start of a file, once it is clear that it is there and no stand-in for another."""
    if not path.exists():
        raise CheckpointError(f"{path} does not exist")
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; give a file inside it")
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise CheckpointError(f"{path} is empty (0 bytes); download or copy it again")
    if _format_of(start) is None and start.lstrip()[:1] == b"<":
        raise CheckpointError(
            f"{path} is a web page, not the file: the download was answered with a page to "
            "click through; open the link in a browser and save the file itself"
        )
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is a Git LFS pointer, not the file; run 'git lfs pull'")
    return start


def _reader_of(path: Path) -> Callable[[Path], Any]:
    """Choose by the first bytes; a name says nothing."""
    readers: dict[CheckpointFormat, Callable[[Path], Any]] = {
        "safetensors": load_file,
        "npy": _read_npy,
        "zip": _read_zip,
        "legacy": _read_torch,
        "pickle": read_numpy_pickle,
    }
    found = _format_of(_first_bytes(path))
    if found is not None:
        return readers[found]
    raise CheckpointError(
        f"{path} is of no known format; expected a .pth or .pt of PyTorch, a .safetensors, a "
        "TorchScript archive, a .npy, or a detectron2 .pkl of numpy arrays"
    )


def _read_npy(path: Path) -> Tensor:
    return torch.from_numpy(_native_order(np.load(path, allow_pickle=False)))


def _read_zip(path: Path) -> Any:
    return read_torchscript(path) if _is_torchscript(path) else _read_torch(path)


def _is_torchscript(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read_torch(path: Path, *, mmap: bool = False) -> Any:
    # training programs store their settings, and numpy's numbers among their counters
    allowed: list[Any] = [(NumpyType, "numpy.dtype"), (PlainSettings, "argparse.Namespace")]
    allowed += [(forget_number, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    with torch.serialization.safe_globals(allowed):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def _refused(path: Path, name: str) -> CheckpointError:
    return CheckpointError(
        f"{path} holds Python objects ({name}) that could run code when read, so it is refused; "
        "in the program that made it, save the tensors alone: torch.save(model.state_dict(), ...)"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__


def _state_dict_of(content: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(content, Tensor):
        return {BARE_TENSOR: content.detach()}
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds an object of type {type(content).__name__}; expected tensors by name, "
            "alone or under 'model' or 'state_dict'"
        )
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    tensors = {str(key): _as_tensor(value) for key, value in content.items()}
    found = {key: tensor.detach() for key, tensor in tensors.items() if tensor is not None}
    if not found:
        entries = ", ".join(sorted(map(str, content))[:5]) or "nothing"
        raise CheckpointError(
            f"{path} holds no tensors (its entries: {entries}); expected tensors by name, alone "
            "or under 'model' or 'state_dict'"
        )
    if all(key.startswith("module.") for key in found):  # left by DistributedDataParallel
        found = {key.removeprefix("module."): tensor for key, tensor in found.items()}
    return found


def _as_tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return torch.from_numpy(_native_order(value))
    return None


def _native_order(array: np.ndarray) -> np.ndarray:
    """A writable, contiguous copy in the machine's byte order, as torch wants it."""
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
