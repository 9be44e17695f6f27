import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from regionclip.data.images import ImageReadError
from regionclip.data.loading import prepared_batches
from regionclip.data.sources import NamedSource
from regionclip.structures import ImageSource, PreparedImage


def sources(count: int) -> list[NamedSource]:
    return [NamedSource(str(n), Path(str(n)), Path(str(n)), str(n)) for n in range(count)]


def prepare(image: ImageSource, name: str) -> PreparedImage:
    if name.endswith("3"):
        raise ImageReadError(f"{name}: is damaged")
    time.sleep(0.002 * (int(name) % 3))  # later ones finish earlier
    return PreparedImage(torch.zeros(3, 2, 2), (2, 2), name)


def test_order_is_kept_and_errors_stand_in_their_place() -> None:
    batches = list(prepared_batches(sources(10), prepare, batch_size=4, num_workers=3))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    pairs = [pair for batch in batches for pair in batch]
    assert [source.name for source, _ in pairs] == [str(n) for n in range(10)]
    assert [isinstance(image, ImageReadError) for _, image in pairs].index(True) == 3
    assert [image.name for _, image in pairs if isinstance(image, PreparedImage)] == [
        str(n) for n in range(10) if n != 3
    ]


def test_no_sources_give_no_batches() -> None:
    assert list(prepared_batches([], prepare)) == []


def test_a_source_that_comes_with_an_error_keeps_it() -> None:
    (source,) = sources(1)
    error = ImageReadError("clip.mp4: broken")
    assert list(prepared_batches([(source, error)], prepare)) == [[(source, error)]]


def test_only_a_few_are_read_ahead() -> None:
    num_taken = 0

    def counted() -> Iterator[NamedSource]:
        nonlocal num_taken
        for source in sources(100):
            num_taken += 1
            yield source

    batches = prepared_batches(counted(), prepare, batch_size=2, num_workers=3)
    next(batches)
    assert num_taken <= 2 + 2 * 2 + 3
    batches.close()
    assert num_taken < 100


def test_images_are_prepared_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=10)

    def wait_for_others(image: ImageSource, name: str) -> PreparedImage:
        together.wait()
        return PreparedImage(torch.zeros(3, 2, 2), (2, 2), name)

    assert len(list(prepared_batches(sources(6), wait_for_others, num_workers=3))) == 6


def test_threads_end_with_the_loop() -> None:
    batches = prepared_batches(sources(50), prepare, num_workers=2)
    next(batches)
    batches.close()
    assert not [each for each in threading.enumerate() if each.name.startswith("regionclip-image")]


def test_other_errors_are_not_hidden() -> None:
    def fail(image: ImageSource, name: str) -> PreparedImage:
        raise RuntimeError("a mistake of ours")

    with pytest.raises(RuntimeError, match="a mistake of ours"):
        list(prepared_batches(sources(2), fail))


def test_counts_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        list(prepared_batches(sources(1), prepare, batch_size=0))
    with pytest.raises(ValueError, match="num_workers must be at least 1, got 0"):
        list(prepared_batches(sources(1), prepare, num_workers=0))
