"""What all tests share, and the order in which workers take them."""

import os
import sys
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
if IS_WORKER:
    # not in the process that only hands out tests: workers start after it has read this
    import torch

    # workers that each take all cores wait for each other
    torch.set_num_threads(1)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums in a fixed order: with several threads two equal runs differ in their last bits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


TOGETHER = ("tests/parity/cora/", "tests/parity/regionclip/", "tests/parity/cl")
"""Beginnings of files that go to one worker: they share stand-in weights of whole models."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out files, the long ones first: a long one at the end would keep one worker alone."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return next((start for start in TOGETHER if file.startswith(start)), file)

    if config.getvalue("dist") != "loadfile":
        return None
    # xdist's own order is by the number of tests, and the longest files have the fewest
    config.option.loadscopereorder = False
    return Scheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For workers: files with many slow tests first, those of original models before all."""
    if not IS_WORKER:
        return
    num_slow: dict[str, int] = {}
    for item in items:
        file = item.nodeid.split("::")[0]
        is_slow = item.get_closest_marker("slow") is not None
        num_slow[file] = num_slow.get(file, 0) + is_slow

    def place(item: pytest.Item) -> tuple[bool, int]:
        file = item.nodeid.split("::")[0]
        return not file.startswith(TOGETHER), -num_slow[file]

    items.sort(key=place)


def _check_protocols_as_newer_pythons_do() -> None:
    """Have ``isinstance`` with a protocol look for attributes without computing properties.

    Before 3.12 it does compute them. Types are checked at each call while tests run, and one of the
    properties is a hash of all of a text tower's weights.
    """
    protocols: Any = type(typing.Protocol)
    plain = protocols.__instancecheck__

    @cache
    def unclear(protocol: type, kind: type) -> tuple[str, ...]:
        """Attributes that are not in the class: the instance may have them."""
        names = typing._get_protocol_attrs(protocol)  # type: ignore[attr-defined]
        return tuple(name for name in names if getattr(kind, name, None) is None)

    def check(protocol: Any, instance: Any) -> bool:
        is_protocol = protocol._is_protocol and protocol._is_runtime_protocol
        if is_protocol and all(
            getattr(instance, name, None) is not None for name in unclear(protocol, type(instance))
        ):
            return True
        return plain(protocol, instance)

    protocols.__instancecheck__ = check


if sys.version_info < (3, 12):
    _check_protocols_as_newer_pythons_do()
