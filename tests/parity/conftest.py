"""What all comparisons with the originals share."""

import pytest


@pytest.fixture(autouse=True)
def as_the_originals(one_thread: None) -> None:
    """Sum in the order in which the golden numbers were summed: on one thread.

    On two, one pair of proposals whose IoU is within float32's noise of 0.7 is suppressed
    otherwise on some processors, and every detection of that box is another.
    """
