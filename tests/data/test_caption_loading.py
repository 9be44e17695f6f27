import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import fsspec
import pytest
import torch

from regionclip.data.augmentation import Augmentation, resize_and_flip
from regionclip.data.caption_loading import (
    LeftOutCounts,
    caption_batches,
    draws,
)
from regionclip.data.caption_shards import CaptionShards
from regionclip.data.caption_sources import CaptionSource, open_captions, stored_boxes
from regionclip.data.captions import CaptionedDataset
from regionclip.data.datasets import Dataset, Sample
from regionclip.data.sampling import Loading
from regionclip.proposals.given import GivenBoxes
from regionclip.structures import CaptionedBatch, LeftOut, PreparedImage, Proposals
from tests.data.made_shards import members, noise, opened, tar, write_shards

AUGMENTATION = Augmentation(shortest_sides=(16, 20), longest_side=40, interpolation="bicubic")
LOADING = Loading(
    augmentation=AUGMENTATION, batch_size=4, part_size=4, num_parts=6, num_workers=0, seed=7
)
FLICKR = Path(__file__).parents[3] / "shared" / "data" / "flickr8k_2k"


@pytest.fixture
def shards(tmp_path: Path) -> CaptionShards:
    """11 samples in three shards."""
    return opened(write_shards(tmp_path, [5, 2, 4]), tmp_path / "cache")


def names(batches: Sequence[CaptionedBatch]) -> list[str]:
    return [name for batch in batches for name in batch.names]


def assert_equal(ones: Sequence[CaptionedBatch], others: Sequence[CaptionedBatch]) -> None:
    for one, other in zip(ones, others, strict=True):
        assert one.seeds == other.seeds
        assert one.names == other.names
        assert one.captions == other.captions
        for own, its in zip(one.images, other.images, strict=True):
            assert torch.equal(own, its)


def test_an_epoch_has_every_sample_once_shard_by_shard(shards: CaptionShards) -> None:
    own = list(caption_batches(shards, replace(LOADING, batch_size=11, part_size=11))(0))
    first, second = own[0].names, own[1].names
    for epoch in (first, second):
        assert len(set(epoch)) == 11
        order = [name.partition("/")[0] for name in epoch]
        assert sum(one != other for one, other in pairwise(order)) == 2
    assert first != second
    assert len({seed for batch in own for seed in batch.seeds}) == 66


def test_each_image_comes_with_one_of_its_captions(shards: CaptionShards) -> None:
    said: Counter[str] = Counter()
    for batch in caption_batches(shards, LOADING)(0):
        for name, caption in zip(batch.names, batch.captions, strict=True):
            key = name.partition("/")[2].removesuffix(".png")
            assert caption in (f"a {key}", f"the {key}")
            said[caption.split()[0]] += 1
    assert said["a"] > 0
    assert said["the"] > 0


def test_an_image_is_resized_and_flipped_by_its_own_seed(shards: CaptionShards) -> None:
    (batch,) = caption_batches(shards, replace(LOADING, num_parts=1))(0)
    group, row = next((each.group, each.row) for each in draws(shards, seed=7))
    sample = shards.read(group, row)
    assert not isinstance(sample, LeftOut)
    assert sample.name == batch.names[0]
    expected, _ = resize_and_flip(
        sample.picture, AUGMENTATION, generator=torch.Generator().manual_seed(batch.seeds[0])
    )
    assert torch.equal(batch.images[0], expected)


@pytest.mark.parametrize("first", range(7))
def test_a_run_can_be_picked_up_at_any_part(shards: CaptionShards, first: int) -> None:
    batches = caption_batches(shards, LOADING)
    assert_equal(list(batches(first)), list(batches(0))[first:])


def test_a_resumed_run_does_not_open_what_it_is_beyond(
    shards: CaptionShards, tmp_path: Path
) -> None:
    memory = tmp_path / "shard_counts.json"
    shards.remember(memory, resume=False, is_writer=True)
    whole = list(caption_batches(shards, replace(LOADING, num_parts=2))(0))
    first = whole[0].names[0].partition("/")[0]
    beyond = {"0.tar": 5, "1.tar": 2, "2.tar": 4}[first]
    later = next(each for each in islice(draws(shards, seed=7), beyond, None))
    (tmp_path / first).write_bytes(b"no archive")
    resumed = opened(shards.shards, tmp_path / "cache")
    resumed.remember(memory, resume=True, is_writer=False)
    assert next(draws(resumed, seed=7, start=beyond)) == later
    assert resumed.damage(int(first[0])) is None


def test_processes_and_accumulated_parts_see_together_what_one_sees(shards: CaptionShards) -> None:
    whole = list(caption_batches(shards, LOADING)(0))
    halved = replace(LOADING, part_size=1, num_processes=2, num_parts=12)
    one, other = (
        list(caption_batches(shards, replace(halved, process_index=process))(0))
        for process in (0, 1)
    )
    for number, step in enumerate(whole):
        own = one[2 * number], other[2 * number], one[2 * number + 1], other[2 * number + 1]
        assert step.names == tuple(names(own))
        assert step.seeds == tuple(seed for batch in own for seed in batch.seeds)
        for expected, batch in zip(step.images, own, strict=True):
            assert torch.equal(expected, batch.images[0])
    later = list(caption_batches(shards, replace(halved, process_index=1))(5))
    assert_equal(later, other[5:])


@pytest.mark.parametrize("num_workers", [1, 2])
def test_worker_processes_change_nothing(shards: CaptionShards, num_workers: int) -> None:
    damage(shards)
    counts = [LeftOutCounts(), LeftOutCounts()]
    one = list(caption_batches(shards, LOADING, left_out=counts[0])(1))
    ahead = replace(LOADING, num_workers=num_workers)
    other = list(caption_batches(shards, ahead, left_out=counts[1])(1))
    assert_equal(one, other)
    assert [batch.left_out for batch in one] == [batch.left_out for batch in other]
    assert counts[0].by_reason == counts[1].by_reason


def test_shards_in_object_storage_give_the_same_batches(
    shards: CaptionShards, tmp_path: Path
) -> None:
    memory = fsspec.filesystem("memory")
    for path in shards.shards:
        memory.pipe(f"/batches/{Path(path).name}", Path(path).read_bytes())
    addresses = [f"memory://batches/{number}.tar" for number in range(3)]
    here = list(caption_batches(shards, LOADING)(2))
    cache = tmp_path / "copies"
    for num_workers in (0, 2):  # the second without anything in the cache, and no room in it
        own = replace(LOADING, num_workers=num_workers)
        remote = opened(addresses, cache / str(num_workers), max_bytes=1)
        assert_equal(list(caption_batches(remote, own)(2)), here)
        assert len(list((cache / str(num_workers)).glob("*.tar"))) == 3


def damage(shards: CaptionShards) -> None:
    """One sample of the first shard has no caption, another one no image."""
    files = members(["a0", "a1", "a2", "a3", "a4"])
    files["a1.json"] = b"{}"
    files["a3.png"] = b"no image"
    Path(shards.shards[0]).write_bytes(tar(files))


def test_the_next_sample_takes_a_bad_ones_place(
    shards: CaptionShards, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sound = caption_batches(shards, replace(LOADING, batch_size=11, part_size=11))
    before = next(iter(sound(0)))
    damage(shards)
    counts = LeftOutCounts()
    whole = caption_batches(
        opened(shards.shards, tmp_path),
        replace(LOADING, batch_size=11, part_size=11, num_parts=1),
        left_out=counts,
    )
    with caplog.at_level(logging.WARNING):
        (after,) = whole(0)
    substitutes = {"0.tar/a1.png": "0.tar/a2.png", "0.tar/a3.png": "0.tar/a4.png"}
    assert after.names == tuple(substitutes.get(name, name) for name in before.names)
    assert after.seeds == before.seeds
    assert {each.reason for each in after.left_out} == {"no caption", "unreadable image"}
    assert str(counts) in (
        "left out: 1 no caption, 1 unreadable image",
        "left out: 1 unreadable image, 1 no caption",
    )
    assert "0.tar/a1.png has no caption" in caplog.text


def test_the_first_few_of_a_kind_are_named_and_all_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    counts = LeftOutCounts()
    assert str(counts) == ""
    with caplog.at_level(logging.WARNING):
        for number in range(9):
            counts.add(LeftOut("no caption", f"number {number}"))
            counts.add(LeftOut("damaged shard", f"shard {number // 5}"))
    assert counts.by_reason == {"no caption": 9}
    assert counts.shards == {"shard 0", "shard 1"}
    assert str(counts) == "left out: 9 no caption, 2 damaged shard"
    told = [record.message for record in caplog.records]
    assert [each for each in told if "shard" in each] == ["shard 0", "shard 1"]
    assert [each for each in told if "number" in each] == [
        *(f"number {number}" for number in range(4)),
        "number 4 (more of this kind are only counted)",
    ]


def test_a_run_goes_on_without_shards_that_cannot_be_read(
    shards: CaptionShards, caplog: pytest.LogCaptureFixture
) -> None:
    Path(shards.shards[1]).write_bytes(b"no archive")
    Path(shards.shards[2]).unlink()
    counts = LeftOutCounts()
    with caplog.at_level(logging.WARNING):
        batches = list(caption_batches(shards, LOADING, left_out=counts)(0))
    assert len(batches) == 6
    assert {name.partition("/")[0] for name in names(batches)} == {"0.tar"}
    assert str(counts) == "left out: 2 damaged shard"
    assert len(caplog.records) == 2
    assert "1.tar cannot be read as an uncompressed tar archive" in caplog.text


def test_a_shard_that_lost_images_since_it_was_counted_gives_those_that_are_left(
    shards: CaptionShards,
) -> None:
    for group in range(3):
        Path(shards.shards[group].replace(".tar", "_stats.json")).write_text('{"successes": 6}')
    Path(shards.shards[1]).write_bytes(b"no archive")
    own = replace(LOADING, batch_size=18, part_size=18, num_parts=1)
    (batch,) = caption_batches(shards, own)(0)
    shares = Counter(name.partition("/")[0] for name in batch.names)
    # what 1.tar should have had comes from the next one
    assert shares == {"0.tar": 6, "2.tar": 12}
    assert {each.reason for each in batch.left_out} == {"damaged shard"}


@pytest.mark.parametrize("num_workers", [0, 1])
def test_samples_without_any_caption_end_the_run_in_one_sentence(
    tmp_path: Path, num_workers: int
) -> None:
    path = tmp_path / "s.tar"
    path.write_bytes(tar({"a.png": noise(0), "b.png": noise(1)}))
    batches = caption_batches(
        opened([str(path)], tmp_path), replace(LOADING, num_workers=num_workers)
    )
    with pytest.raises(
        ValueError,
        match=r"^.*s\.tar: 2 samples one after another cannot be used, the last of them because "
        r"s\.tar/[ab]\.png has no caption; is it images with captions\?$",
    ):
        list(batches(0))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_shard_out_of_reach_ends_the_run_in_one_sentence(
    tmp_path: Path, num_workers: int
) -> None:
    # counted by its statistics, so that only who reads it comes upon it
    statistics = b'{"successes": 4}'
    fsspec.filesystem("memory").pipe("/lost/s_stats.json", statistics)
    batches = caption_batches(
        opened(["memory://lost/s.tar"], tmp_path), replace(LOADING, num_workers=num_workers)
    )
    with pytest.raises(
        ValueError,
        match=r"^memory://lost/s\.tar: there is no such file; .* when it can be reached$",
    ):
        list(batches(0))


def test_shards_without_any_image_end_the_run_in_one_sentence(tmp_path: Path) -> None:
    batches = caption_batches(opened(["x/a.tar", "x/b.tar"], tmp_path), LOADING)
    with pytest.raises(ValueError, match=r"x/a\.tar \(2 shards\) has no image that can be read"):
        list(batches(0))


def test_an_image_too_narrow_to_learn_from_is_left_out(tmp_path: Path) -> None:
    files = members(["a"]) | {"b.png": noise(0, width=900, height=20), "b.txt": b"a banner"}
    (tmp_path / "s.tar").write_bytes(tar(files))
    counts = LeftOutCounts()
    shards = opened([str(tmp_path / "s.tar")], tmp_path)
    batches = list(caption_batches(shards, LOADING, left_out=counts)(0))
    assert set(names(batches)) == {"s.tar/a.png"}
    assert counts.by_reason == {"tiny image": 12}


def test_stored_boxes_come_along_resized_and_mirrored(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(noise(0, width=40, height=20))
    source = CaptionedDataset(
        Dataset("set", (), (Sample("a.png", tmp_path / "a.png", 1, captions=("a dog",)),))
    )
    stored = GivenBoxes({"a.png": [[2.0, 4, 12, 20]]})
    boxes = {}
    for flip_share in (0.0, 1.0):
        twice = Augmentation(shortest_sides=(40,), longest_side=80, flip_share=flip_share)
        loading = replace(LOADING, augmentation=twice, num_parts=1)
        (batch,) = caption_batches(source, loading, proposer=stored)(0)
        assert batch.proposals is not None
        assert len(batch.proposals) == 4
        boxes[flip_share] = batch.proposals[0].boxes.tolist()
    assert boxes == {0.0: [[4, 8, 24, 40]], 1.0: [[56, 8, 76, 40]]}
    (batch,) = caption_batches(source, replace(LOADING, num_parts=1))(0)
    assert batch.proposals is None


class TwoBoxes:
    """Two boxes with objectness and a vector each."""

    def propose(self, images: Sequence[PreparedImage]) -> list[Proposals]:
        boxes = torch.tensor([[0.0, 0, 8, 8], [10, 0, 12, 4]])
        vectors = torch.tensor([[1.0, 2, 3], [4, 5, 6]])
        return [Proposals(boxes, torch.tensor([2.0, 1.0]), vectors) for _ in images]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_vectors_of_stored_boxes_come_along_with_mirrored_ones(
    shards: CaptionShards, num_workers: int
) -> None:
    mirror = Augmentation(shortest_sides=(20,), longest_side=40, flip_share=1.0)
    loading = replace(LOADING, augmentation=mirror, num_parts=1, num_workers=num_workers)
    (batch,) = caption_batches(shards, loading, proposer=TwoBoxes())(0)
    assert batch.proposals is not None
    for own in batch.proposals:
        # images are 30 pixels wide
        assert own.boxes.tolist() == [[22, 0, 30, 8], [18, 0, 20, 4]]
        assert own.objectness is not None
        assert own.objectness.tolist() == [2, 1]
        assert own.features is not None
        assert own.features.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_the_batch_must_divide_among_the_processes() -> None:
    with pytest.raises(ValueError, match="batch_size 4 does not divide into 3 processes with"):
        replace(LOADING, num_processes=3, part_size=1)


def test_a_recipe_names_shards_or_data_sets(tmp_path: Path) -> None:
    write_shards(tmp_path, [2, 1])
    for train in (str(tmp_path), f"{tmp_path}/*.tar", f"{tmp_path}/{{0..1}}.tar"):
        source = CaptionSource(train=train, cache=str(tmp_path / "cache"))
        images = open_captions(source, run_folder=tmp_path / "run", resume=True, is_main=True)
        assert isinstance(images, CaptionShards)
        assert [images.count(group) for group in range(len(images))] == [2, 1]
    folder = tmp_path / "parts"
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        write_shards(folder / split, [1])
        (folder / split / "0.tar").rename(folder / f"{split}-0.tar")
    parts = CaptionSource(train=str(folder), cache=str(tmp_path / "cache"))
    chosen = open_captions(replace(parts, split="val"), resume=True, is_main=True)
    assert chosen.shard_names == ("val-0.tar",)
    with pytest.raises(ValueError, match="shards of several splits; choose one: train, val"):
        open_captions(parts, resume=True, is_main=True)
    pattern = replace(parts, train=f"{folder}/*.tar", split="val")
    with pytest.raises(ValueError, match=r"split 'val' goes with a folder, not with .*\.tar"):
        open_captions(pattern, resume=True, is_main=True)
    table = tmp_path / "captions.csv"
    (tmp_path / "a.png").write_bytes(noise(0))
    table.write_text("image,caption\na.png,a dog\n")
    images = open_captions(CaptionSource(train=str(table)), resume=True, is_main=True)
    assert images.count(0) == 1
    with pytest.raises(ValueError, match=r"names no captions to learn from; set data\.train"):
        open_captions(CaptionSource(), resume=True, is_main=True)
    with pytest.raises(ValueError, match="cache_gb must be positive"):
        CaptionSource(cache_gb=0.0)


def test_stored_boxes_may_be_in_a_file_or_missing(tmp_path: Path) -> None:
    images = opened(write_shards(tmp_path, [1]), tmp_path)
    path = tmp_path / "boxes.csv"
    source = CaptionSource(train=str(tmp_path), proposals=str(path))
    with pytest.raises(ValueError, match=r"boxes\.csv does not exist; 'regionclip propose' makes"):
        stored_boxes(source, images)
    path.write_text("image,x0,y0,x1,y1\n0.tar/a0.png,3,2,6,4\n")
    loading = replace(
        LOADING,
        augmentation=Augmentation(shortest_sides=(20,), longest_side=40, flip_share=0.0),
        num_parts=1,
    )
    (batch,) = caption_batches(images, loading, proposer=stored_boxes(source, images))(0)
    assert batch.proposals is not None
    assert [each.boxes.tolist() for each in batch.proposals] == [[[3, 2, 6, 4]]] * 4
    assert stored_boxes(replace(source, proposals=None), images) is None
    with pytest.raises(ValueError, match=r"boxes\.csv is a file of boxes without a teacher's vect"):
        stored_boxes(source, images, features_of="tiny:0123")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_stored_boxes_that_are_damaged_end_the_run_in_one_sentence(
    tmp_path: Path, num_workers: int
) -> None:
    images = opened(write_shards(tmp_path, [1]), tmp_path / "cache")
    folder = tmp_path / "boxes"
    folder.mkdir()
    (folder / "0-00000.parquet").write_bytes(b"PAR1 and no more")
    source = CaptionSource(train=str(tmp_path), proposals=str(folder))
    batches = caption_batches(
        images, replace(LOADING, num_workers=num_workers), proposer=stored_boxes(source, images)
    )
    with pytest.raises(
        ValueError, match=r"^\S+0-00000\.parquet cannot be read as a table of boxes"
    ):
        list(batches(0))


def test_of_a_folder_with_several_splits_one_may_be_named(tmp_path: Path) -> None:
    for name in ("train-0.tar", "train-1.tar", "val-0.tar"):
        (tmp_path / name).write_bytes(tar({}))
    images = open_captions(
        CaptionSource(train=str(tmp_path), split="train"), resume=True, is_main=True
    )
    assert len(images) == 2
    with pytest.raises(ValueError, match=r"split 'train' goes with a folder, not with a\.tar"):
        open_captions(CaptionSource(train="a.tar", split="train"), resume=True, is_main=True)


def test_real_shards_are_streamed_and_picked_up() -> None:
    if not FLICKR.is_dir():
        pytest.skip(f"real shards are missing: {FLICKR}")
    source = open_captions(CaptionSource(train=f"{FLICKR}/*.tar"), resume=True, is_main=True)
    loading = replace(LOADING, batch_size=8, part_size=8, num_parts=252)
    (last,) = caption_batches(source, loading)(251)  # in the second epoch of 2000 samples
    assert all(image.shape == (3, 16, 16) or image.shape == (3, 20, 20) for image in last.images)
    assert len(set(last.names)) == 8
