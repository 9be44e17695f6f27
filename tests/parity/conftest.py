"""What all comparisons with the originals share."""

from collections.abc import Iterator

import pytest

from .comparing import REMEMBERED


@pytest.fixture(autouse=True)
def as_the_originals(one_thread: None) -> None:
    """Sum in the order in which the golden numbers were summed: on one thread.

    On two, one pair of proposals whose IoU is within float32's noise of 0.7 is suppressed
    otherwise on some processors, and every detection of that box is another.
    """


@pytest.fixture(scope="module", autouse=True)
def forgetting(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let go of what a module remembered for its own tests: together they would fill the memory."""
    yield
    for each in vars(request.module).values():
        is_own = getattr(each, "__module__", None) == request.module.__name__
        if is_own and hasattr(each, "cache_clear"):
            each.cache_clear()


@pytest.fixture(scope="package", autouse=True)
def forgetting_weights() -> Iterator[None]:
    """Let go of the numbers that several files of weights have, after the last comparison."""
    yield
    for known in REMEMBERED:
        known.clear()
