"""Frozen dataclasses from and to plain data: recipes (TOML) and checkpoint metadata (JSON)."""

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def settings_from(kind: type[T], data: Mapping[str, Any], *, source: str) -> T:
    """Build a dataclass, its nested dataclasses included, and refuse what does not fit.

    Args:
        kind: A dataclass whose fields are numbers, strings, booleans, ``Literal``, tuples,
            optional values or further dataclasses.
        data: Values by field name; fields with a default may be left out, and optional ones may
            be ``"none"``.
        source: How errors call the data: a file's path.

    Raises:
        ValueError: A key is unknown or missing, or a value is of the wrong type or out of range;
            the message names ``source``, the key and the value.
    """
    return _read(kind, data, source, "")


def settings_to_dict(value: Any) -> Any:
    """A dataclass as plain data that :func:`settings_from` reads back; ``None`` fields are kept."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: settings_to_dict(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, tuple | list):
        return [settings_to_dict(each) for each in value]
    return value


def _read(kind: Any, value: Any, source: str, path: str) -> Any:
    if is_dataclass(kind):
        return _read_dataclass(kind, value, source, path)
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _read_union(kind, value, source, path)
    if origin is Literal:
        return _checked(value in get_args(kind), value, f"one of {get_args(kind)}", source, path)
    if origin is tuple:
        return _read_tuple(get_args(kind), value, source, path)
    if kind is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(_checked(is_number, value, "a number", source, path))
    # bool is an int to isinstance, not to a reader of a recipe
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    return _checked(fits, value, f"of type {kind.__name__}", source, path)


def _read_dataclass(kind: Any, value: Any, source: str, path: str) -> Any:
    _checked(isinstance(value, Mapping), value, "a table of settings", source, path)
    hints = get_type_hints(kind)
    known = {each.name: each for each in fields(kind) if each.init}
    unknown = sorted(value.keys() - known.keys())
    if unknown:
        raise ValueError(
            f"{source}: unknown setting {_joined(path, unknown[0])!r}; "
            f"expected some of {', '.join(known)}"
        )
    for name, each in known.items():
        if name not in value and each.default is MISSING and each.default_factory is MISSING:
            raise ValueError(f"{source}: setting {_joined(path, name)!r} is missing")
    given = {
        name: _read(hints[name], each, source, _joined(path, name)) for name, each in value.items()
    }
    try:
        return kind(**given)
    except ValueError as error:
        raise ValueError(f"{source}: {path or kind.__name__}: {error}") from error


def _read_union(kind: Any, value: Any, source: str, path: str) -> Any:
    options = get_args(kind)
    # TOML has no null
    if value in (None, "none") and type(None) in options:
        return None
    (only,) = [each for each in options if each is not type(None)]
    return _read(only, value, source, path)


def _read_tuple(kinds: tuple[Any, ...], value: Any, source: str, path: str) -> tuple[Any, ...]:
    _checked(isinstance(value, list | tuple), value, "a list", source, path)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    _checked(len(value) == len(kinds), value, f"a list of {len(kinds)}", source, path)
    return tuple(
        _read(each_kind, each, source, f"{path}[{index}]")
        for index, (each_kind, each) in enumerate(zip(kinds, value, strict=True))
    )


def _checked(is_right: bool, value: Any, wanted: str, source: str, path: str) -> Any:
    if not is_right:
        raise ValueError(f"{source}: setting {path!r} must be {wanted}, got {value!r}")
    return value


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
