"""What all comparisons with the originals share."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sum in the order in which the golden numbers were summed: on one thread.

    On two, one pair of proposals whose IoU is within float32's noise of 0.7 is suppressed
    otherwise on some processors, and every detection of that box is another.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
