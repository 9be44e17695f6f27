"""What every method's folder owes the rest of the package."""

import json
from dataclasses import FrozenInstanceError, fields, is_dataclass
from importlib import import_module
from types import ModuleType

import pytest
import torch
from torch import nn

from regionclip.methods import known_weights, list_methods
from regionclip.settings import settings_from, settings_to_dict

MAX_OPTIONS = 30


@pytest.fixture(params=list_methods())
def method(request: pytest.FixtureRequest) -> ModuleType:
    return import_module(f"regionclip.methods.{request.param}")


def name_of(method: ModuleType) -> str:
    return method.__name__.rpartition(".")[2]


def test_methods_are_found_by_their_folders() -> None:
    assert {"cora", "regionclip"} <= set(list_methods())


def test_a_configuration_is_frozen_and_has_few_options(method: ModuleType) -> None:
    assert is_dataclass(method.Config)
    config = next(iter(method.VARIANTS.values()))
    with pytest.raises(FrozenInstanceError):
        setattr(config, fields(config)[0].name, None)
    assert 0 < len(fields(method.Config)) <= MAX_OPTIONS


def test_every_variant_goes_into_a_file_and_back(method: ModuleType) -> None:
    assert method.VARIANTS
    for name, config in method.VARIANTS.items():
        assert isinstance(config, method.Config)
        stored = json.loads(json.dumps(settings_to_dict(config)))
        assert settings_from(method.Config, stored, source=name) == config
    stored = settings_to_dict(config) | {"no_such_option": 1}
    with pytest.raises(ValueError, match="unknown setting 'no_such_option'"):
        settings_from(method.Config, stored, source="a file")


def test_every_variant_is_built_ready_for_a_checkpoint(method: ModuleType) -> None:
    for config in method.VARIANTS.values():
        with torch.device("meta"):
            model = method.build(config)
        assert isinstance(model, nn.Module)
        assert model.config == config
        assert not any(each.training for each in model.modules())


def test_weights_name_their_method_and_a_variant_of_it(method: ModuleType) -> None:
    assert method.WEIGHTS
    for name, entry in method.WEIGHTS.items():
        assert entry.method == name_of(method)
        assert entry.variant in {"", *method.VARIANTS}
        assert entry.licence
        assert known_weights()[name] == entry


def test_no_two_methods_give_weights_the_same_name() -> None:
    tables = [import_module(f"regionclip.methods.{each}").WEIGHTS for each in list_methods()]
    assert len({name for table in tables for name in table}) == sum(map(len, tables))
