import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from regionclip.weights import DownloadError, download_file
from tests.file_server import FileServer, file_server

CONTENT = bytes(range(256)) * 20_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server("weights.pt", CONTENT) as running:
        yield running


@pytest.mark.parametrize("digest", [SHA256, SHA256[:8], SHA256.upper()])
def test_a_file_arrives_whole_and_nothing_else_stays(
    digest: str, server: FileServer, tmp_path: Path
) -> None:
    path = tmp_path / "cache" / "weights.pt"
    assert download_file(server.url, path, sha256=digest) == path
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


def test_progress_ends_at_the_length_of_the_file(server: FileServer, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []

    def progress(name: str, received: int, total: int | None) -> None:
        assert name == "a"
        seen.append((received, total))

    download_file(server.url, tmp_path / "a", sha256=SHA256, progress=progress)
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [received for received, _ in seen] == sorted(received for received, _ in seen)


def test_a_download_that_broke_off_goes_on_where_it_stopped(
    server: FileServer, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pt"
    server.breaks_off_after = 1_000_000
    with pytest.raises(DownloadError, match="broke off after 1000000 of 5120000 bytes; run the sa"):
        download_file(server.url, path, sha256=SHA256)
    assert not path.exists()
    server.breaks_off_after = None
    download_file(server.url, path, sha256=SHA256)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000000-"]


def test_a_server_that_cannot_resume_is_asked_for_everything(
    server: FileServer, tmp_path: Path
) -> None:
    (tmp_path / "weights.pt.part").write_bytes(CONTENT[:1000])
    server.knows_ranges = False
    download_file(server.url, tmp_path / "weights.pt", sha256=SHA256)
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT


def test_a_part_that_was_whole_already_is_kept(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "weights.pt.part").write_bytes(CONTENT)
    download_file(server.url, tmp_path / "weights.pt", sha256=SHA256)
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT


def test_a_file_with_another_hash_is_deleted(server: FileServer, tmp_path: Path) -> None:
    server.content = b"something else"
    with pytest.raises(
        DownloadError, match=r"delivered a file with SHA-256 \w{16}\.\.\., expected"
    ):
        download_file(server.url, tmp_path / "weights.pt", sha256=SHA256)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_part_does_not_spoil_the_next_attempt(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "weights.pt.part").write_bytes(b"x" * 1000)
    with pytest.raises(DownloadError, match="it was deleted"):
        download_file(server.url, tmp_path / "weights.pt", sha256=SHA256)
    download_file(server.url, tmp_path / "weights.pt", sha256=SHA256)
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT


def test_a_missing_file_says_what_the_server_answered(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="answered with '404 Not Found'; the file may have mov"):
        download_file(server.url + "x", tmp_path / "weights.pt", sha256=SHA256)


def unknown_host(server: FileServer) -> str:
    return "http://host.invalid/weights.pt"


def closed_port(server: FileServer) -> str:
    return "http://127.0.0.1:1/weights.pt"


@pytest.mark.parametrize("address", [unknown_host, closed_port])
def test_without_a_network_the_message_says_where_to_put_the_file(
    address: Callable[[FileServer], str], server: FileServer, tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match=r"is out of reach .* and save it as .*weights\.pt"):
        download_file(address(server), tmp_path / "weights.pt", sha256=SHA256)


def test_a_file_on_a_mounted_disk_can_be_the_source(tmp_path: Path) -> None:
    (tmp_path / "mirror.pt").write_bytes(CONTENT)
    download_file((tmp_path / "mirror.pt").as_uri(), tmp_path / "weights.pt", sha256=SHA256)
    assert (tmp_path / "weights.pt").read_bytes() == CONTENT
