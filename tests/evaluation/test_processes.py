import pytest

from regionclip.evaluation.processes import Processes


@pytest.mark.parametrize(("count", "batch_size"), [(1, 1), (2, 1), (2, 3), (3, 2), (5, 4)])
def test_shares_are_whole_batches_and_together_everything(count: int, batch_size: int) -> None:
    items = list(range(17))
    shares = [Processes(rank, count).share(items, batch_size) for rank in range(count)]
    assert sorted(item for share in shares for item in share) == items
    batches = {tuple(items[start : start + batch_size]) for start in range(0, 17, batch_size)}
    for share in shares:
        for start in range(0, len(share), batch_size):
            assert tuple(share[start : start + batch_size]) in batches


def test_a_single_process_keeps_what_it_has() -> None:
    alone = Processes.join(on_cpu=True)
    assert alone == Processes(0, 1)
    assert alone.is_main
    assert alone.gather([1, 2]) == [[1, 2]]
    assert alone.from_main("x") == "x"
    alone.wait()
    alone.leave()
