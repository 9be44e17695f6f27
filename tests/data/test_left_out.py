from regionclip.data.captions import DAMAGED_SHARD, NO_CAPTION, TINY_IMAGE
from regionclip.data.left_out import LeftOutCounts
from regionclip.structures import LeftOut


def test_what_was_left_out_and_cut_is_told() -> None:
    counts = LeftOutCounts()
    assert not str(counts)
    for reason in (TINY_IMAGE, NO_CAPTION, TINY_IMAGE):
        counts.add(LeftOut(reason, "why"))
    assert str(counts) == "left out: 2 tiny image, 1 no caption"
    counts.num_cut = 1
    assert str(counts).endswith("; cut to what the text tower reads: 1 caption")
    alone = LeftOutCounts(num_cut=2)
    assert str(alone) == "cut to what the text tower reads: 2 captions"


def test_a_damaged_shard_counts_once_in_every_epoch_and_process() -> None:
    counts = LeftOutCounts()
    for _ in range(2):
        counts.add(LeftOut(DAMAGED_SHARD, "a.tar is cut off"))
    other = LeftOutCounts()
    other.add(LeftOut(DAMAGED_SHARD, "a.tar is cut off"))
    other.add(LeftOut(DAMAGED_SHARD, "b.tar is cut off"))
    total = LeftOutCounts()
    total.restore([counts.state(), other.state()])
    assert str(total) == "left out: 2 damaged shard"


def test_what_several_processes_counted_is_added_up() -> None:
    one, two, total = LeftOutCounts(num_cut=2), LeftOutCounts(num_cut=3), LeftOutCounts(num_cut=9)
    for counts in (one, two, two):
        counts.add(LeftOut(NO_CAPTION, "why"))
    total.restore([one.state(), two.state()])
    assert (total.by_reason, total.num_cut) == ({NO_CAPTION: 3}, 5)
    total.restore([])
    assert total == LeftOutCounts()
