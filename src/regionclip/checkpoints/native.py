"""The project's own files: safetensors that say what they hold."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from regionclip.whole_files import replacing

from .errors import CheckpointError
from .reading import read_checkpoint

FORMAT = "regionclip/1"
"""Value of the metadata entry ``format``; the number rises when old readers would go wrong."""
_OWN_ENTRIES = ("format", "method", "config", "encoder_id")


@dataclass(frozen=True, kw_only=True, slots=True)
class NativeMetadata:
    """What a file in the project's own format says about itself.

    Attributes:
        method: The system whose ``build`` takes the file.
        config: Plain data of that system's configuration.
        encoder_id: The joint space of its vectors, if it has one.
        extra: Further entries, such as source and licence.
    """

    method: str
    config: Mapping[str, Any]
    encoder_id: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


def save_native(
    path: str | Path,
    tensors: Mapping[str, Tensor],
    *,
    method: str,
    config: Mapping[str, Any],
    encoder_id: str | None = None,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write weights with what is needed to build and use them; an old file stays until the end.

    Args:
        path: Where to; its folder is made.
        tensors: Weights by the built module's names.
        method: The system whose ``build`` takes the file.
        config: That system's configuration as plain data that JSON can hold.
        encoder_id: The joint space of the model's vectors.
        extra: Further entries, such as source and licence.

    Raises:
        ValueError: ``extra`` uses a name of the format's own.
    """
    extra = {} if extra is None else extra
    clashes = sorted(set(extra) & set(_OWN_ENTRIES))
    if clashes:
        raise ValueError(f"metadata entry {clashes[0]!r} belongs to the format; rename it")
    entries = {"format": FORMAT, "method": method, "config": json.dumps(config), **extra}
    if encoder_id is not None:
        entries["encoder_id"] = encoder_id
    save_tensors(path, tensors, entries)


def save_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file whole or not at all: beside its place first, then renamed."""
    # a copy each: safetensors refuses tensors that share memory, as tied weights do
    own = {key: tensor.detach().cpu().clone().contiguous() for key, tensor in tensors.items()}
    with replacing(Path(path)) as partial:
        save_file(own, partial, metadata=dict(metadata))


def set_encoder_id(path: str | Path, encoder_id: str) -> None:
    """Name the joint space of a file in the project's own format anew; the rest stays bit by bit.

    Raises:
        CheckpointError: It is no such file.
    """
    about = read_native_metadata(path)
    save_native(
        path,
        read_checkpoint(path),
        method=about.method,
        config=about.config,
        encoder_id=encoder_id,
        extra=about.extra,
    )


def is_native(path: str | Path) -> bool:
    """Whether a file is in the project's own format, of any version."""
    return str(_metadata_of(Path(path)).get("format", "")).startswith("regionclip/")


def read_native_metadata(path: str | Path) -> NativeMetadata:
    """Read what a file in the project's own format says about itself.

    Raises:
        CheckpointError: It is no such file, a newer version, or its entries are damaged.
    """
    path = Path(path)
    entries = _metadata_of(path)
    if not str(entries.get("format", "")).startswith("regionclip/"):
        raise CheckpointError(
            f"{path} is not in this package's format; 'regionclip models convert' makes one of it"
        )
    if entries["format"] != FORMAT:
        raise CheckpointError(
            f"{path} is in format {entries['format']!r}, and this version reads {FORMAT!r}; "
            "upgrade regionclip"
        )
    try:
        method, config = entries["method"], json.loads(entries["config"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} has damaged metadata ({error}); get it again") from error
    return NativeMetadata(
        method=method,
        config=config,
        encoder_id=entries.get("encoder_id"),
        extra={key: value for key, value in entries.items() if key not in _OWN_ENTRIES},
    )


def _metadata_of(path: Path) -> dict[str, str]:
    """The header of a safetensors file; empty for any other readable file."""
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist or is no file")
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError:
        return {}
