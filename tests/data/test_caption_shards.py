import json
import logging
import time
from pathlib import Path

import fsspec
import pytest

from regionclip.data.caption_shards import CaptionShards
from regionclip.data.captions import CaptionedDataset, CaptionedImage
from regionclip.data.datasets import Dataset, Sample
from regionclip.structures import LeftOut
from tests.data.made_shards import members, noise, opened, tar, write_shards
from tests.file_server import file_server


def one_shard(folder: Path, files: dict[str, bytes]) -> CaptionShards:
    (folder / "s.tar").write_bytes(tar(files))
    return opened([str(folder / "s.tar")], folder / "cache")


def test_samples_are_read_in_any_order(tmp_path: Path) -> None:
    shards = opened(write_shards(tmp_path, [2, 3]), tmp_path / "cache")
    assert len(shards) == 2
    assert [shards.count(group) for group in (0, 1)] == [2, 3]
    sample = shards.read(1, 2)
    assert isinstance(sample, CaptionedImage)
    assert sample.name == "1.tar/b2.png"
    assert sample.captions == ("a b2", "the b2")
    assert sample.picture.size == (30, 20)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("texts", "image", "reason", "message"),
    [
        ({}, noise(0), "no caption", r"s\.tar/a\.png has no caption"),
        ({"a.txt": b" \n"}, noise(0), "no caption", "has no caption"),
        ({"a.json": b'{"caption": null}'}, noise(0), "no caption", "has no caption"),
        ({"a.json": b'{"caption"'}, noise(0), "unreadable caption", r"a\.json cannot be read"),
        ({"a.json": b"[3]"}, noise(0), "unreadable caption", r"a\.json has no captions; expected"),
        ({"a.txt": b"a dog"}, b"no image", "unreadable image", r"a\.png: is not an image"),
        ({"a.txt": b"a dog"}, b"", "unreadable image", r"a\.png: is empty"),
        ({"a.txt": b"a dog"}, noise(0)[:300], "unreadable image", r"a\.png: is damaged or cut"),
        (
            {"a.txt": b"a dog"},
            noise(0, width=1, height=1),
            "tiny image",
            r"s\.tar/a\.png has 1x1 pixels, too few",
        ),
    ],
)
def test_a_bad_sample_is_left_out_for_a_reason(
    tmp_path: Path, texts: dict[str, bytes], image: bytes, reason: str, message: str
) -> None:
    sample = one_shard(tmp_path, {"a.png": image, **texts}).read(0, 0)
    assert isinstance(sample, LeftOut)
    assert sample.reason == reason
    with pytest.raises(ValueError, match=message):
        raise ValueError(sample.message)


def test_a_caption_of_many_words_is_kept_whole(tmp_path: Path) -> None:
    text = " ".join(["word"] * 500)
    sample = one_shard(tmp_path, {"a.png": noise(0), "a.txt": text.encode()}).read(0, 0)
    assert isinstance(sample, CaptionedImage)
    assert sample.captions == (text,)


def test_texts_without_an_image_are_no_samples(tmp_path: Path) -> None:
    shards = one_shard(tmp_path, {"a.txt": b"a dog", "b.png": noise(0), "b.txt": b"a cat"})
    assert shards.count(0) == 1
    assert shards.damage(0) is None


def test_a_shard_that_is_cut_off_keeps_its_first_images(tmp_path: Path) -> None:
    (path,) = write_shards(tmp_path, [4])
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: content.index(b"a2.png") + 700])
    shards = opened([path], tmp_path)
    assert shards.count(0) == 2
    assert isinstance(shards.read(0, 1), CaptionedImage)
    damage = shards.damage(0)
    assert damage is not None
    assert damage.reason == "damaged shard"
    assert "0.tar" in damage.message
    assert damage.message.endswith("; its first 2 images are used")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"this is no archive" * 100, "cannot be read as an uncompressed tar archive"),
        (b"", "cannot be read as an uncompressed tar archive"),
        (tar({"a.txt": b"a dog"}), "has no image; it is left out"),
        (None, "cannot be read as an uncompressed tar archive"),
    ],
)
def test_a_shard_without_any_image_counts_none(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "s.tar"
    if content is not None:
        path.write_bytes(content)
    shards = opened([str(path)], tmp_path)
    assert shards.count(0) == 0
    damage = shards.damage(0)
    assert damage is not None
    assert message in damage.message
    assert damage.message.endswith("; it is left out")


def test_shards_come_from_a_web_server(tmp_path: Path) -> None:
    with file_server("s.tar", tar(members(["a"]))) as server:
        shards = opened([server.url], tmp_path)
        assert shards.count(0) == 1
        sample = shards.read(0, 0)
    assert isinstance(sample, CaptionedImage)
    assert sample.name == "s.tar/a.png"


def test_a_shard_that_was_deleted_meanwhile_is_fetched_again(tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe("/again/s.tar", tar(members(["a", "b"])))
    shards = opened(["memory://again/s.tar"], tmp_path)
    assert isinstance(shards.read(0, 0), CaptionedImage)
    (copy,) = tmp_path.glob("*.tar")
    copy.unlink()
    assert isinstance(shards.read(0, 1), CaptionedImage)


@pytest.mark.parametrize("is_expected", [False, True])
def test_a_shard_out_of_reach_is_an_error_that_is_not_remembered(
    tmp_path: Path, is_expected: bool
) -> None:
    address = f"memory://reach{is_expected}/s.tar"
    memory = tmp_path / "run" / "shard_counts.json"
    shards = opened([address], tmp_path)
    shards.remember(memory, resume=True, is_writer=True)
    if is_expected:
        shards.expect([0])
    with pytest.raises(
        ValueError,
        match=r"^memory://reach.*/s\.tar: there is no such file; check the address, and run the "
        r"same command again when it can be reached$",
    ):
        shards.count(0)
    assert not memory.exists()
    fsspec.filesystem("memory").pipe(address.removeprefix("memory:/"), tar(members(["a"])))
    assert shards.count(0) == 1
    assert shards.damage(0) is None
    assert list(json.loads(memory.read_text())["images"].values()) == [1]


def test_a_shard_that_cannot_be_fetched_again_is_an_error(tmp_path: Path) -> None:
    storage = fsspec.filesystem("memory")
    storage.pipe("/evicted/s.tar", tar(members(["a", "b"])))
    shards = opened(["memory://evicted/s.tar"], tmp_path)
    assert isinstance(shards.read(0, 0), CaptionedImage)
    (copy,) = tmp_path.glob("*.tar")
    copy.unlink()
    storage.rm("/evicted/s.tar")
    with pytest.raises(ValueError, match=r"evicted/s\.tar: there is no such file"):
        shards.read(0, 1)


def test_coming_shards_are_fetched_in_the_background(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for name in ("x.tar", "y.tar"):
        memory.pipe(f"/coming/{name}", tar(members([name[0]])))
    shards = opened(["memory://coming/x.tar", "memory://coming/y.tar"], tmp_path)
    shards.expect([1])
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*-y.tar")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert shards.count(1) == 1
    assert list(tmp_path.glob("*-x.tar")) == []


@pytest.mark.parametrize("place", ["beside", "memory"])
def test_img2datasets_statistics_save_counting(tmp_path: Path, place: str) -> None:
    stats = json.dumps({"count": 9, "successes": 7}).encode()
    if place == "beside":
        (tmp_path / "00000_stats.json").write_bytes(stats)
        shards = opened([str(tmp_path / "00000.tar")], tmp_path)
    else:
        fsspec.filesystem("memory").pipe("/stats/00000_stats.json", stats)
        shards = opened(["memory://stats/00000.tar"], tmp_path)
    assert shards.count(0) == 7  # there is no such archive at all


def test_statistics_of_another_program_are_not_used(tmp_path: Path) -> None:
    (path,) = write_shards(tmp_path, [2])
    (tmp_path / "0_stats.json").write_text('{"successes": "many"}')
    assert opened([path], tmp_path).count(0) == 2


def test_counts_are_remembered_beside_the_run(tmp_path: Path) -> None:
    paths = write_shards(tmp_path, [2, 3])
    memory = tmp_path / "run" / "shard_counts.json"
    first = opened(paths, tmp_path)
    first.remember(memory, resume=True, is_writer=True)
    assert first.count(1) == 3
    Path(paths[1]).unlink()
    second = opened(paths, tmp_path)
    second.remember(memory, resume=True, is_writer=False)
    assert second.count(1) == 3  # without opening it
    assert json.loads(memory.read_text())["images"] == {paths[1]: 3}
    third = opened(paths, tmp_path)
    third.remember(memory, resume=False, is_writer=True)
    assert third.count(1) == 0
    other = opened(paths[:1], tmp_path)
    with pytest.raises(ValueError, match=r"of other shards than the 1 that are named now"):
        other.remember(memory, resume=True, is_writer=True)
    memory.write_text("{")
    with pytest.raises(ValueError, match=r"shard_counts\.json is damaged; remove it"):
        other.remember(memory, resume=True, is_writer=True)


def test_two_shards_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"two shards are called a\.tar"):
        opened(["x/a.tar", "y/a.tar"], tmp_path)
    with pytest.raises(ValueError, match="no shards are given"):
        opened([], tmp_path)


def test_a_data_set_is_one_group_of_those_that_have_captions(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.png").write_bytes(noise(0))
    samples = (
        Sample("mute.png", tmp_path / "mute.png", 1, captions=(" ",)),
        Sample("a.png", tmp_path / "a.png", 2, captions=(" a dog ", "")),
        Sample("b.png", tmp_path / "b.png", 3, captions=("a cat",)),
    )
    with caplog.at_level(logging.WARNING):
        images = CaptionedDataset(Dataset("set", (), samples))
    assert "set: 1 of 3 images have no caption" in caplog.text
    assert (len(images), images.count(0), images.num_readable(0)) == (1, 2, 2)
    assert images.damage(0) is None
    sample = images.read(0, 0)
    assert isinstance(sample, CaptionedImage)
    assert sample.captions == ("a dog",)
    missing = images.read(0, 1)
    assert isinstance(missing, LeftOut)
    assert "there is no such file" in missing.message
    with pytest.raises(ValueError, match=r"set has no captions \(1 images\); name a captions json"):
        CaptionedDataset(Dataset("set", (), samples[:1]))
