import errno
import os
from pathlib import Path

import fsspec
import pytest

from regionclip.data.shard_cache import FetchError, ShardCache
from tests.file_server import file_server


def cache(folder: Path, *, max_bytes: int = 1000) -> tuple[ShardCache, list[float]]:
    """A cache that spares nothing, and the seconds that it would have waited."""
    waited: list[float] = []
    return ShardCache(folder, max_bytes, 0.0, waits=(1.0, 5.0), sleep=waited.append), waited


def put(name: str, content: bytes) -> str:
    fsspec.filesystem("memory").pipe(f"/cached/{name}", content)
    return f"memory://cached/{name}"


def test_a_local_shard_is_used_where_it_is(tmp_path: Path) -> None:
    own, _ = cache(tmp_path / "cache")
    assert own.local("x/a.tar") == Path("x/a.tar")
    assert not (tmp_path / "cache").exists()


def test_a_remote_shard_is_fetched_once(tmp_path: Path) -> None:
    own, _ = cache(tmp_path)
    address = put("a.tar", b"first")
    path = own.local(address)
    assert path.read_bytes() == b"first"
    assert path.name.endswith("-a.tar")
    put("a.tar", b"second")
    assert own.local(address).read_bytes() == b"first"
    assert [each.name for each in tmp_path.iterdir() if ".part" in each.name] == []


def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    own, _ = cache(tmp_path, max_bytes=250)
    paths = []
    for index, name in enumerate(("a.tar", "b.tar")):
        paths.append(own.local(put(name, bytes(100))))
        os.utime(paths[-1], (index, index))
    own.local("memory://cached/a.tar")  # now b is the older one
    third = own.local(put("c.tar", bytes(100)))
    assert paths[0].exists()
    assert not paths[1].exists()
    # a shard that is larger than all room is kept alone
    large = own.local(put("d.tar", bytes(300)))
    assert large.exists()
    assert not paths[0].exists()
    assert not third.exists()
    assert own.local("memory://cached/b.tar").exists()


def test_what_is_in_use_stays_though_there_is_no_room(tmp_path: Path) -> None:
    own = ShardCache(tmp_path, max_bytes=1)
    first = own.local(put("a.tar", bytes(100)))
    second = own.local(put("b.tar", bytes(100)))
    assert first.exists()
    os.utime(first, (0, 0))
    own.local(put("c.tar", bytes(100)))
    assert not first.exists()
    assert second.exists()


def test_a_shard_that_is_not_there_is_named_at_once(tmp_path: Path) -> None:
    own, waited = cache(tmp_path)
    with pytest.raises(FetchError, match=r"memory://cached/none\.tar: there is no such file"):
        own.local("memory://cached/none.tar")
    with (
        file_server("a.tar", b"x") as server,
        pytest.raises(FetchError, match=r"b\.tar is answered with '404 Not Found'"),
    ):
        own.local(server.url.replace("a.tar", "b.tar"))
    assert waited == []


def test_a_web_server_that_breaks_off_is_asked_for_the_rest(tmp_path: Path) -> None:
    own, waited = cache(tmp_path)
    with file_server("a.tar", bytes(range(100))) as server:
        server.breaks_off_after = 60
        path = own.local(server.url)
    assert path.read_bytes() == bytes(range(100))
    assert server.ranges == [None, "bytes=60-"]
    assert waited == [1.0]


def test_a_server_that_stays_broken_is_given_up(tmp_path: Path) -> None:
    own, waited = cache(tmp_path)
    with file_server("a.tar", bytes(100)) as server:
        server.breaks_off_after = 20
        with pytest.raises(FetchError, match=r"a\.tar cannot be fetched \(.*60 of 100 bytes"):
            own.local(server.url)
    assert waited == [1.0, 5.0]


def test_a_full_disk_is_said_at_once_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, waited = cache(tmp_path)
    address = put("a.tar", bytes(100))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(FetchError, match=r"No space left on device\); make room there") as caught:
        own.local(address)
    assert "login" not in str(caught.value)
    assert waited == []


def test_a_truncated_copy_from_storage_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, waited = cache(tmp_path)
    address = put("a.tar", bytes(100))
    memory = fsspec.filesystem("memory")
    monkeypatch.setattr(type(memory), "info", lambda self, path: {"size": 120})
    with pytest.raises(FetchError, match="it broke off after 100 of 120 bytes"):
        own.local(address)
    assert waited == [1.0, 5.0]
    assert list(tmp_path.glob("*.tar")) == []
