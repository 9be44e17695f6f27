import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regionclip.data.datasets import Member
from regionclip.data.images import read_image
from regionclip.data.readers import open_dataset
from regionclip.data.readers.webdataset import read_webdataset

FLICKR = Path(__file__).parents[4] / "shared" / "data" / "flickr8k_2k"


def png(grey: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (4, 3), (grey, grey, grey)).save(content, "png")
    return content.getvalue()


def write_shard(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def captions(*texts: str) -> bytes:
    return json.dumps({"captions": texts}).encode()


def test_a_shard_gives_its_images_with_their_captions(tmp_path: Path) -> None:
    members = {
        "b.png": png(1),
        "b.json": captions("a dog", " a cat "),
        "sub/a.b.png": png(2),
        "sub/a.txt": b"a bird\n",
        "both.txt": b"from txt",
        "both.png": png(3),
        "both.json": b'{"caption": "from json", "width": 4}',
        "neither.PNG": png(4),
        "meta.png": png(5),
        "meta.json": b'{"width": 4}',
        "meta.txt": b"from txt",
        "c.cls": b"0",
    }
    dataset = read_webdataset([write_shard(tmp_path / "train-0.tar", members)])
    assert [(each.image_id, each.captions) for each in dataset] == [
        ("b", ("a dog", "a cat")),
        # sub/a has a "b.png", as masks are kept, and no image
        ("both", ("from json",)),
        ("neither", ()),
        ("meta", ("from txt",)),
    ]
    assert dataset.samples[0].name == "train-0.tar/b.png"
    assert [int(np.asarray(read_image(each.image))[0, 0, 0]) for each in dataset] == [1, 3, 4, 5]


def test_shards_follow_each_other_and_may_share_keys(tmp_path: Path) -> None:
    first = write_shard(tmp_path / "train-0.tar", {"a.png": png(1)})
    second = write_shard(tmp_path / "train-1.tar", {"a.png": png(2), "b.png": png(3)})
    assert [each.image_id for each in read_webdataset([second])] == ["a", "b"]
    both = read_webdataset([first, second])
    assert [each.image_id for each in both] == ["train-0.tar/a", "train-1.tar/a", "train-1.tar/b"]
    assert both.source == f"{tmp_path} (2 shards)"


def test_names_with_a_folder_are_keys_of_their_own(tmp_path: Path) -> None:
    members = {"x/a.png": png(1), "y/a.png": png(2), "y/a.txt": b"in y"}
    dataset = read_webdataset([write_shard(tmp_path / "s.tar", members)])
    assert [(each.image_id, each.captions) for each in dataset] == [("x/a", ()), ("y/a", ("in y",))]


def test_links_and_folders_in_a_shard_are_no_images(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("a.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(ValueError, match=r"s\.tar has no image with one of \.avif"):
        read_webdataset([path])


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.png": b"x", "a.jpg": b"x"}, "has two images of the key 'a'"),
        ({"a.png": b"x", "a.json": b"{"}, r"s\.tar/a\.json cannot be read"),
        ({"a.png": b"x", "a.json": b"3"}, r"s\.tar/a\.json has no captions; expected"),
        ({"a.png": b"x", "a.json": b'{"captions": [3]}'}, r"s\.tar/a\.json has no captions"),
        ({"a.png": b"x", "a.json": b"[" * 99_999}, r"s\.tar/a\.json cannot be read"),
        ({"a.png": b"x", "a.txt": b"x" * (1 << 24) + b"x"}, "16777217 bytes, which is no caption"),
    ],
)
def test_an_unusable_member_is_refused_by_name(
    tmp_path: Path, members: dict[str, bytes], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_webdataset([write_shard(tmp_path / "s.tar", members)])


def test_captions_that_are_not_in_utf8_are_kept_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    members = {
        "a.png": png(1),
        "a.txt": b"a caf\xe9",
        "b.png": png(2),
        "b.json": b'{"captions": ["a dog", "a na\xefve cat"]}',
        "c.png": png(3),
        "c.txt": b"\xef\xbb\xbfa bird",
    }
    dataset = read_webdataset([write_shard(tmp_path / "s.tar", members)])
    assert [each.captions for each in dataset] == [
        ("a caf\ufffd",),
        ("a dog", "a na\ufffdve cat"),
        ("a bird",),
    ]
    assert "s.tar: 2 captions are not in UTF-8; they are kept" in caplog.text


def test_an_archive_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "s.tar", {"a.png": png(1), "b.png": b"x" * 5000})
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"s\.tar is cut off in b\.png; copy or"):
        read_webdataset([path])


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar.gz", "w:gz"):
        pass
    with pytest.raises(ValueError, match="cannot be read as an uncompressed tar archive"):
        read_webdataset([tmp_path / "s.tar.gz"])


def test_real_shards_are_read_to_the_last_image() -> None:
    if not FLICKR.is_dir():
        pytest.skip(f"real shards are missing: {FLICKR}")
    dataset = open_dataset(FLICKR, split="val")
    assert len(dataset) == 1000
    assert {len(each.captions) for each in dataset} == {5}
    last = dataset.samples[-1]
    assert isinstance(last.image, Member)
    assert read_image(last.image).size == (224, 224)


def test_an_archive_whose_middle_is_overwritten_is_refused(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "s.tar", {"a.png": b"x" * 600, "b.png": b"y", "c.png": b"z"})
    content = bytearray(path.read_bytes())
    content[1536:2048] = b"?" * 512  # the header of b.png: 512 and 2 x 512 bytes are before it
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"s\.tar is damaged behind a\.png; copy or download"):
        read_webdataset([path])
