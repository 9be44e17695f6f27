import sys
from pathlib import Path

import fsspec
import pytest

from regionclip.data.shards import are_shards, expand_braces, find_shards, shard_name


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("a.tar", ["a.tar"]),
        ("a{8..10}.tar", ["a8.tar", "a9.tar", "a10.tar"]),
        ("a{008..010}.tar", ["a008.tar", "a009.tar", "a010.tar"]),
        ("{x,y}/{0..1}.tar", ["x/0.tar", "x/1.tar", "y/0.tar", "y/1.tar"]),
        ("a{}.tar", ["a.tar"]),
    ],
)
def test_braces_stand_for_several_names(text: str, expanded: list[str]) -> None:
    assert expand_braces(text) == expanded


def test_a_range_that_goes_down_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"a\{3\.\.1\}: the range \{3\.\.1\} ends before it starts"
    ):
        expand_braces("a{3..1}")


def test_folders_and_patterns_give_their_shards_sorted_and_once(tmp_path: Path) -> None:
    for name in ("b.tar", "a.tar", "a.json"):
        (tmp_path / name).touch()
    both = (str(tmp_path / "a.tar"), str(tmp_path / "b.tar"))
    assert find_shards([str(tmp_path)]) == both
    assert find_shards([f"{tmp_path}/*.tar", str(tmp_path / "a.tar")]) == both
    assert find_shards([f"{tmp_path}/{{b,a}}.tar"]) == both[::-1]
    # named ones need not be there: that is found out, and said, when their turn comes
    assert find_shards(["missing.tar"]) == ("missing.tar",)
    with pytest.raises(ValueError, match=r"no shard matches .*/x\*\.tar"):
        find_shards([f"{tmp_path}/x*.tar"])


def test_patterns_are_looked_up_in_object_storage() -> None:
    memory = fsspec.filesystem("memory")
    for name in ("b.tar", "a.tar"):
        memory.pipe(f"/listed/{name}", b"x")
    assert find_shards(["memory://listed/*.tar"]) == (
        "memory:///listed/a.tar",
        "memory:///listed/b.tar",
    )
    with pytest.raises(ValueError, match=r"no shard matches memory://listed/x\*\.tar"):
        find_shards(["memory://listed/x*.tar"])


def test_a_web_server_cannot_be_asked_for_a_list() -> None:
    with pytest.raises(ValueError, match="write the numbers in braces"):
        find_shards(["https://host/*.tar"])


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ValueError, match=r's3://b/\*\.tar: .* pip install "regionclip\[remote\]"'):
        find_shards(["s3://b/*.tar"])


def test_shards_are_told_from_data_sets(tmp_path: Path) -> None:
    assert not are_shards([str(tmp_path)])
    assert not are_shards(["captions.json"])
    assert not are_shards([])
    assert are_shards(["s3://bucket/x", "a.tar", "x/*.tar"])
    (tmp_path / "a.tar").touch()
    assert are_shards([str(tmp_path)])


def test_a_shard_is_called_by_the_end_of_its_address() -> None:
    assert shard_name("https://host/x/a.tar?download=true") == "a.tar"
    assert shard_name("C:\\x\\a.tar") == "a.tar"
    assert shard_name("a.tar") == "a.tar"
