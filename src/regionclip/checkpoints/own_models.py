"""Whole models in the project's own files: what every method does with them in the same way."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from torch import Tensor, nn

from regionclip.settings import settings_from, settings_to_dict

from .errors import CheckpointError
from .native import is_native, read_native_metadata, save_native
from .strict import LoadReport, WithoutRandomWeights, load_strict

Config = TypeVar("Config")
Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Filled(Generic[Model]):
    """A model and what became of its file.

    Attributes:
        model: Filled, in ``eval`` mode.
        report: What was loaded.
    """

    model: Model
    report: LoadReport


@dataclass(frozen=True, slots=True)
class ReadWithText(Generic[Model]):
    """A model whose file may lack the text tower, and what became of the file.

    Attributes:
        model: Filled, in ``eval`` mode.
        has_text_tower: Whether the file carried one; if not, what the model has in its place means
            nothing.
        report: What was loaded.
    """

    model: Model
    has_text_tower: bool
    report: LoadReport


@runtime_checkable
class _Encoder(Protocol):
    @property
    def encoder_id(self) -> str: ...


@runtime_checkable
class OwnModel(Protocol):
    """A model whose configuration builds it again, with the encoder that names its space."""

    config: Any

    @property
    def encoder(self) -> _Encoder:
        """Its image and text tower."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Its tensors by their names."""
        ...


def own_method(path: str | Path) -> str | None:
    """The method of a file in the project's own format; ``None`` for other files."""
    return read_native_metadata(path).method if is_native(path) else None


def own_config(path: str | Path, kind: type[Config], *, method: str, title: str) -> Config:
    """The configuration in a file of the project's own format.

    Args:
        path: The file.
        kind: The method's configuration.
        method: The method that the file has to be of.
        title: How errors call the method.

    Raises:
        CheckpointError: It is no such file, or another method's.
    """
    metadata = read_native_metadata(path)
    if metadata.method != method:
        raise CheckpointError(f"{path} is a model of {metadata.method!r}, not of {title}")
    return settings_from(kind, metadata.config, source=str(path))


def filled(
    build: Callable[[Config], Model],
    config: Config,
    state: Mapping[str, Tensor],
    *,
    source: str | Path,
    target: str,
    notes: tuple[str, ...] = (),
) -> Filled[Model]:
    """Build a model and fill it from a file, whole or not at all.

    Args:
        build: The method's.
        config: What to build.
        state: Tensors by the model's names.
        source: The file, for errors.
        target: How errors call the model.
        notes: See :func:`~.strict.load_strict`.

    Raises:
        CheckpointError: A tensor is missing, is of another shape, or has no place.
    """
    with WithoutRandomWeights():
        model = build(config)
    report = load_strict(model, state, source=str(source), target=target, notes=notes)
    return Filled(model, report)


def save_own(
    path: str | Path,
    model: OwnModel,
    *,
    method: str,
    left_out: Collection[str] = (),
    extra: Mapping[str, str],
) -> None:
    """Write a model in the package's own format, with all that is needed to build it again.

    Args:
        path: A ``.safetensors`` file.
        model: The model.
        method: Whose ``build`` takes it.
        left_out: Names of tensors that mean nothing: those of a text tower that the model's file
            did not carry. The file then names no space of words.
        extra: Further metadata, such as ``licence``.
    """
    state = model.state_dict()
    save_native(
        path,
        {name: own for name, own in state.items() if name not in left_out},
        method=method,
        config=settings_to_dict(model.config),
        encoder_id=None if left_out else model.encoder.encoder_id,
        extra=extra,
    )
