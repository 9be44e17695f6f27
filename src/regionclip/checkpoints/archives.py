"""Tensors out of TorchScript archives and numpy pickles, without running what they carry.

Both are pickles, and a pickle may name any function of any module to be called. The unpicklers
here know the few names that make arrays and containers, and refuse the file at any other. numpy's
own constructors are not called either: they trust a pickle with the flags of their types, which is
enough to write to any place in memory. A TorchScript archive's code is never looked at;
``torch.jit.load`` would compile and run parts of it.
"""

import io
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

_STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class ForbiddenNameError(pickle.UnpicklingError):
    """A pickle names something that is not an array or a container."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Collect the tensors of a TorchScript archive by the names its modules give them.

    Beside parameters and buffers these are all tensors that a module keeps, such as OpenAI's
    ``input_resolution``.

    Raises:
        ForbiddenNameError: The archive names something other than modules, tensors, containers.
        pickle.UnpicklingError, zipfile.BadZipFile, ValueError, KeyError: The archive is damaged.

    Source:
        PyTorch ``docs/source/jit.rst`` and ``torch/csrc/jit/docs/serialization.md``.
    """
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        root = min(pickles, key=len)  # an archive may carry files of its user's, deeper inside
        pickled = archive.read(root)
        module = _TorchScriptUnpickler(pickled, archive, root.removesuffix(".pkl")).load()
    tensors: dict[str, Tensor] = {}
    _collect(module, "", tensors, set())
    return tensors


def read_numpy_pickle(path: Path) -> Any:
    """Read a pickle of numbers, strings, containers and numpy arrays, as detectron2 releases.

    Raises:
        ForbiddenNameError: It names anything else.
        pickle.UnpicklingError, EOFError, ValueError: It is damaged.
    """
    with path.open("rb") as file:
        return _as_arrays(_NumpyUnpickler(file, encoding="latin1").load())


class NumpyType:
    """Stands for a ``numpy.dtype``; of its state only the byte order is taken."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code = code
        self.byte_order = "="

    def __setstate__(self, state: Sequence[Any]) -> None:
        self.byte_order = state[1]

    def resolve(self) -> np.dtype | None:
        """The type, if it is one of plain numbers."""
        code = self.byte_order.replace("|", "=") + self.code
        return np.dtype(code) if re.fullmatch("[<>=](f[248]|[iu][1248]|b1)", code) else None


def forget_number(*_: Any) -> None:
    """Stands for what makes one of numpy's numbers; those of training programs are of no use."""


class PlainSettings:
    """Stands for an ``argparse.Namespace``, the settings of a training program.

    Attributes:
        by_name: Those that are text, numbers or nothing; the rest is forgotten.
    """

    by_name: Mapping[str, str | float | None] = MappingProxyType({})

    def __setstate__(self, state: Any) -> None:
        """Keep what is plain."""
        entries = state.items() if isinstance(state, dict) else ()
        kept = {str(key): own for key, own in entries if isinstance(own, str | int | float | None)}
        self.by_name = kept


class _NumpyArray:
    """Stands for a ``numpy.ndarray`` until its state is known."""

    array: np.ndarray | None = None

    def __init__(self, *_: Any) -> None:
        """Whatever numpy's reconstruction is told at first, the state says again."""

    def __setstate__(self, state: Sequence[Any]) -> None:
        _, shape, dtype, is_fortran, data = state
        kind = dtype.resolve()
        if kind is not None:  # arrays of strings and objects are no weights
            data = data.encode("latin1") if isinstance(data, str) else data  # by Python 2
            order = "F" if is_fortran else "C"
            self.array = np.frombuffer(data, kind).reshape(shape, order=order)


def _array_of_buffer(data: Any, dtype: NumpyType, shape: Any, order: str) -> _NumpyArray:
    """How numpy rebuilds arrays from the fifth version of pickles."""
    made = _NumpyArray()
    made.__setstate__((1, shape, dtype, order == "F", data))
    return made


def _latin1(text: str, _: str) -> bytes:
    """How Python 3 writes bytes into pickles of the second version."""
    return text.encode("latin1")


NUMPY_NAMES: dict[str, Any] = {
    f"{module}.{name}": stand_in
    for module in ("numpy.core", "numpy._core")
    for name, stand_in in (
        ("multiarray._reconstruct", _NumpyArray),
        ("multiarray.scalar", forget_number),
        ("numeric._frombuffer", _array_of_buffer),
    )
} | {"numpy.dtype": NumpyType, "numpy.ndarray": _NumpyArray}
"""What numpy's pickles call, and what is called here instead."""


def _as_arrays(value: Any) -> Any:
    if isinstance(value, _NumpyArray):
        return value.array
    if isinstance(value, dict):
        return {key: _as_arrays(each) for key, each in value.items()}
    return value


class _NumpyUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        name = f"{module_name}.{global_name}"
        plain = {"collections.OrderedDict": OrderedDict, "_codecs.encode": _latin1}
        try:
            return (NUMPY_NAMES | plain)[name]
        except KeyError:
            raise ForbiddenNameError(name) from None


class _ScriptModule:
    """Stands for any module of a TorchScript archive; the unpickler fills its ``__dict__``."""


class _TorchScriptUnpickler(pickle.Unpickler):
    def __init__(self, pickled: bytes, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(pickled))
        self._archive = archive
        self._folder = folder

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if module_name.split(".")[0] == "__torch__":
            return _ScriptModule
        if module_name == "torch" and global_name in _STORAGE_DTYPES:
            return _STORAGE_DTYPES[global_name]
        if module_name == "torch.jit._pickle":
            return _first
        try:
            return _TORCHSCRIPT_NAMES[module_name, global_name]
        except KeyError:
            raise ForbiddenNameError(f"{module_name}.{global_name}") from None

    def persistent_load(self, pid: Any, /) -> Tensor:
        kind, dtype, key, _, size = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"unknown persistent id {kind!r}")
        entry = self._archive.getinfo(f"{self._folder}/{key}")
        if entry.file_size != size * dtype.itemsize:
            raise ValueError(f"storage {key} has {entry.file_size} bytes, expected {size} {dtype}")
        data = self._archive.read(entry)
        return torch.from_numpy(np.frombuffer(data, np.uint8).copy()).view(dtype)


def _first(value: Any, *_: Any) -> Any:
    """Lists and dictionaries that TorchScript marks with the type of their elements."""
    return value


def _rebuild_tensor(
    storage: Tensor, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any
) -> Tensor:
    # as_strided checks that the view stays inside the storage
    return storage.as_strided(size, stride, offset).clone()


_TORCHSCRIPT_NAMES = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch", "device"): torch.device,
    ("collections", "OrderedDict"): OrderedDict,
}


def _collect(value: Any, name: str, tensors: dict[str, Tensor], seen: set[int]) -> None:
    if isinstance(value, Tensor):
        tensors[name] = value
    elif isinstance(value, _ScriptModule) and id(value) not in seen:
        seen.add(id(value))
        for key, part in vars(value).items():
            _collect(part, f"{name}.{key}" if name else str(key), tensors, seen)
