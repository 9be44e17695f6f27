"""Work from many threads, computed in one."""

import gc
import threading
import time
import weakref
from collections.abc import Sequence

import pytest

from regionclip.server.batching import MicroBatcher, NotRunningError
from regionclip.server.settings import Batching, Limits, ServiceSettings


def batcher(max_size: int = 4, max_delay_seconds: float = 0.0) -> tuple[MicroBatcher, list[int]]:
    sizes: list[int] = []
    batching = Batching(max_size=max_size, max_delay_seconds=max_delay_seconds)
    found = MicroBatcher(batching, on_batch=sizes.append)
    found.start()
    return found, sizes


class Held:
    """Holds the thread until it is let go, so that work piles up."""

    def __init__(self, batcher: MicroBatcher) -> None:
        self.may_go = threading.Event()
        begun = threading.Event()

        def hold(items: Sequence[int]) -> Sequence[int]:
            begun.set()
            assert self.may_go.wait(30)
            return items

        batcher.submit(hold, 0)
        assert begun.wait(30)


def doubled(items: Sequence[int]) -> list[int]:
    return [2 * item for item in items]


def test_equal_groups_go_together_in_the_order_they_came_and_others_do_not() -> None:
    seen: list[list[int]] = []

    def compute(items: Sequence[int]) -> list[int]:
        seen.append(list(items))
        return doubled(items)

    found, sizes = batcher()
    held = Held(found)
    asked = [(1, "a"), (2, "b"), (3, "a"), (4, None), (5, "a"), (6, "a"), (7, "a"), (8, None)]
    futures = [found.submit(compute, item, group=group) for item, group in asked]
    assert len(found) == 8
    held.may_go.set()
    assert [future.result(30) for future in futures] == [2, 4, 6, 8, 10, 12, 14, 16]
    assert seen == [[1, 3, 5, 6], [2], [4], [7], [8]]
    assert sizes == [1, 4, 1, 1, 1, 1]
    found.close(30.0)


def test_work_waits_for_company_while_nothing_else_is_to_be_done() -> None:
    found, sizes = batcher(max_size=2, max_delay_seconds=30.0)
    first = found.submit(doubled, 1, group="a")
    time.sleep(0.05)
    assert not first.done()
    second = found.submit(doubled, 2, group="a")
    assert (first.result(10), second.result(10)) == (2, 4)
    assert sizes == [2]
    # other work does not wait behind one that could have company
    third = found.submit(doubled, 3, group="a")
    found.submit(doubled, 4)
    assert third.result(10) == 6
    found.close(30.0)


def test_one_that_fails_does_not_spoil_the_others() -> None:
    def compute(items: Sequence[int]) -> list[int]:
        if 2 in items:
            raise ValueError("two is bad")
        return doubled(items)

    found, _ = batcher()
    held = Held(found)
    futures = [found.submit(compute, item, group="a") for item in (1, 2, 3)]
    held.may_go.set()
    assert [futures[0].result(30), futures[2].result(30)] == [2, 6]
    with pytest.raises(ValueError, match="two is bad"):
        futures[1].result(30)
    found.close(30.0)


def test_what_nobody_waits_for_any_more_is_not_computed() -> None:
    computed: list[int] = []

    def compute(items: Sequence[int]) -> Sequence[int]:
        computed.extend(items)
        return items

    found, _ = batcher()
    held = Held(found)
    futures = [found.submit(compute, item, group="a") for item in (1, 2)]
    assert futures[0].cancel()
    held.may_go.set()
    assert futures[1].result(30) == 2
    assert computed == [2]
    found.close(30.0)


def test_closing_computes_what_was_taken_and_takes_no_more() -> None:
    found, _ = batcher(max_delay_seconds=30.0)
    held = Held(found)
    futures = [found.submit(doubled, item, group="a") for item in range(6)]
    threading.Timer(0.05, held.may_go.set).start()
    found.close(30.0)
    assert [future.result(0) for future in futures] == [0, 2, 4, 6, 8, 10]
    assert not found.is_running
    with pytest.raises(NotRunningError, match="shutting down"):
        found.submit(doubled, 1)
    found.start()
    assert found.submit(doubled, 1).result(30) == 2
    found.close(30.0)


def test_what_is_cancelled_is_let_go_of_at_once() -> None:
    found, _ = batcher(max_delay_seconds=30.0)
    first = found.submit(doubled, 1, group="a")
    assert len(found) == 1
    assert first.cancel()
    assert len(found) == 0
    assert found.submit(doubled, 2).result(10) == 4
    found.close(30.0)


def test_closing_does_not_wait_longer_than_it_is_told_to() -> None:
    found, _ = batcher()
    held = Held(found)
    waiting = found.submit(doubled, 1)
    assert not found.close(0.05)
    assert waiting.cancelled()
    found.start()
    again = found.submit(doubled, 2)
    held.may_go.set()
    assert again.result(30) == 4
    assert found.close(30.0)
    assert found.close(30.0)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="max_size must be at least 1, got 0"):
        Batching(max_size=0)
    with pytest.raises(ValueError, match="max_delay_seconds must be at least 0"):
        Batching(max_delay_seconds=-1.0)
    with pytest.raises(ValueError, match="there are 2 classes, and max_names is 1"):
        ServiceSettings(classes=("a", "b"), limits=Limits(max_names=1))
    with pytest.raises(
        ValueError, match=r"the class 'aaa'\.\.\. has 3 characters, and 2 are taken"
    ):
        ServiceSettings(classes=("aaa",), limits=Limits(max_text_length=2))


def test_long_work_lets_shorter_go_first() -> None:
    order: list[int] = []
    found, _ = batcher()
    held = Held(found)

    def compute(sizes: Sequence[int]) -> Sequence[int]:
        found.let_shorter_go_first()
        order.extend(sizes)
        if 3 in sizes:
            raise ValueError("three is bad")
        return sizes

    asked = (20, 11, 10, 3, 5, 6)
    futures = [found.submit(compute, size, size=size) for size in asked]
    assert futures[4].cancel()
    held.may_go.set()
    found.close(30.0)
    # of 20 at most 10 go first, of 10 at most 5, of 11 at most 5 that are gone by then
    assert order == [3, 10, 6, 20, 11]
    with pytest.raises(ValueError, match="three is bad"):
        futures[3].result(0)
    assert [futures[index].result(0) for index in (0, 1, 2, 5)] == [20, 11, 10, 6]


def test_nothing_keeps_what_was_computed_alive() -> None:
    """A circle would hold each image until Python looks for circles, which is seldom."""

    class Picture:
        pass

    found, _ = batcher()
    picture = Picture()
    gone = weakref.ref(picture)
    gc.disable()
    try:
        future = found.submit(lambda items: [None for _ in items], picture)
        assert future.result(30) is None
        found.close(30.0)
        del picture, future
        assert gone() is None
    finally:
        gc.enable()
