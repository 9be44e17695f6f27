"""What all tests share."""

import os
from collections.abc import Iterator

import pytest
import torch

if "PYTEST_XDIST_WORKER" in os.environ:
    # workers that each take all cores wait for each other
    torch.set_num_threads(1)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums in a fixed order: with several threads two equal runs differ in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
