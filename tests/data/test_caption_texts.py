import json
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from regionclip.data.caption_texts import read_captions
from regionclip.data.shard_cache import FetchError, ShardCache
from tests.data.readers.test_webdataset import captions, png, write_shard


def shards(folder: Path) -> None:
    first = {"a.png": png(1), "a.json": captions("a dog", "a cat"), "b.png": png(2)}
    write_shard(folder / "train-0.tar", first)
    write_shard(folder / "train-1.tar", {"a.png": png(1), "a.txt": b"a bird"})


def test_captions_of_all_shards_follow_each_other(tmp_path: Path) -> None:
    shards(tmp_path)
    steps: list[int] = []
    found = read_captions(tmp_path, progress=steps.append)
    assert found.texts == ("a dog", "a cat", "a bird")
    assert (found.num_images, found.num_uncaptioned, found.failures) == (3, 1, ())
    assert steps == [1, 1]


def test_a_shard_that_cannot_be_read_is_left_out_by_name(tmp_path: Path) -> None:
    shards(tmp_path)
    cut = (tmp_path / "train-0.tar").read_bytes()[:700]
    (tmp_path / "train-0.tar").write_bytes(cut)
    found = read_captions(tmp_path, split="train")
    assert found.texts == ("a bird",)
    (failure,) = found.failures
    assert "train-0.tar" in failure
    (tmp_path / "train-1.tar").write_bytes(cut)
    with pytest.raises(ValueError, match=r"none of the 2 shards can be read; the first: .*-0\.tar"):
        read_captions(tmp_path)


def test_captions_that_cannot_be_read_do_not_lose_their_shard(tmp_path: Path) -> None:
    shards(tmp_path)
    members = {"a.png": png(1), "a.json": b'{"caption', "b.png": png(2), "b.txt": b"a caf\xe9"}
    write_shard(tmp_path / "train-1.tar", members)
    found = read_captions(tmp_path)
    assert found.texts == ("a dog", "a cat", "a caf\ufffd")
    assert (found.num_images, found.num_uncaptioned, found.failures) == (4, 2, ())
    (message,) = found.unreadable
    assert "train-1.tar/a.json cannot be read" in message


@pytest.mark.parametrize("pattern", ["*.tar", "train-{0..1}.tar"])
def test_shards_by_pattern_and_from_storage(tmp_path: Path, pattern: str) -> None:
    shards(tmp_path)
    expected = ("a dog", "a cat", "a bird")
    assert read_captions(f"{tmp_path}/{pattern}").texts == expected
    storage = fsspec.filesystem("memory")
    storage.put(f"{tmp_path}/*.tar", f"/{tmp_path.name}/")
    cache = ShardCache(tmp_path / "cache", 10**9)
    address = f"memory://{tmp_path.name}/{pattern}"
    assert read_captions(address, cache=cache).texts == expected
    assert len(list((tmp_path / "cache").glob("*.tar"))) == 2
    with pytest.raises(ValueError, match="split 'train' goes with a folder, not with memory://"):
        read_captions(address, split="train")
    with pytest.raises(FetchError, match=r"memory://gone/0\.tar: there is no such file"):
        read_captions("memory://gone/0.tar", cache=replace(cache, waits=()))


def test_a_single_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    shards(tmp_path)
    path = tmp_path / "train-0.tar"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ValueError, match=r"train-0\.tar"):
        read_captions(path)


def test_blank_captions_are_kept_and_their_images_counted(tmp_path: Path) -> None:
    path = tmp_path / "captions.json"
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in (1, 2, 3)]
    rows = [{"id": 1, "image_id": 1, "caption": "a dog"}, {"id": 2, "image_id": 2, "caption": " "}]
    path.write_text(json.dumps({"images": images, "annotations": rows}))
    found = read_captions(path)
    assert found.texts == ("a dog", " ")
    assert (found.num_images, found.num_uncaptioned) == (3, 2)


def test_data_without_captions_is_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "train-0.tar", {"a.png": png(1)})
    with pytest.raises(ValueError, match=r"has 1 images and no caption; give a COCO captions json"):
        read_captions(tmp_path)
