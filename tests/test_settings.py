from dataclasses import dataclass, field
from typing import Literal

import pytest

from regionclip.methods.regionclip.config import VARIANTS, RegionClipConfig
from regionclip.settings import settings_from, settings_to_dict


@dataclass(frozen=True)
class Inner:
    size: int
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    inner: Inner
    rate: float = 0.5
    mode: Literal["a", "b"] = "a"
    pair: tuple[int, int] = (1, 2)
    other: Inner | None = None
    flags: tuple[bool, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ValueError(f"rate must not be negative, got {self.rate}")


def read(**data: object) -> Outer:
    return settings_from(Outer, data, source="recipe.toml")


def test_nested_tables_lists_and_whole_numbers_become_typed_fields() -> None:
    outer = read(inner={"size": 3, "names": ["x", "y"]}, rate=1, pair=[4, 5], other={"size": 1})
    assert outer == Outer(Inner(3, ("x", "y")), rate=1.0, pair=(4, 5), other=Inner(1))
    assert isinstance(outer.rate, float)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"inner": {"size": 1}, "typo": 2}, "recipe.toml: unknown setting 'typo'; expected some"),
        ({"inner": {"size": 1, "typo": 2}}, "unknown setting 'inner.typo'"),
        ({}, "recipe.toml: setting 'inner' is missing"),
        ({"inner": {"size": "3"}}, "setting 'inner.size' must be of type int, got '3'"),
        ({"inner": {"size": True}}, "setting 'inner.size' must be of type int, got True"),
        ({"inner": 3}, "setting 'inner' must be a table of settings, got 3"),
        ({"inner": {"size": 1}, "mode": "c"}, "setting 'mode' must be one of"),
        ({"inner": {"size": 1}, "pair": [1]}, "setting 'pair' must be a list of 2"),
        ({"inner": {"size": 1}, "pair": 7}, "setting 'pair' must be a list, got 7"),
        ({"inner": {"size": 1}, "rate": "fast"}, "setting 'rate' must be a number, got 'fast'"),
        ({"inner": {"size": 1}, "rate": -1.0}, "Outer: rate must not be negative, got -1.0"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(data: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        read(**data)


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_every_variant_survives_plain_data(name: str) -> None:
    plain = settings_to_dict(VARIANTS[name])
    assert settings_from(RegionClipConfig, plain, source="here") == VARIANTS[name]
