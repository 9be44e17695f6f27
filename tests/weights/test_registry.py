import hashlib
import re
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest

from regionclip.methods import known_weights, list_methods
from regionclip.weights import (
    DownloadError,
    WeightsEntry,
    default_cache_folder,
    fetch_weights,
    find_entry,
    shared_weights,
)

BY_HAND = WeightsEntry(
    file="rn50.pth",
    title="a model",
    source="https://example.org",
    licence="MIT",
    method="regionclip",
    how_to_get="ask the authors",
)


def to_download(path: Path) -> WeightsEntry:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return replace(BY_HAND, how_to_get="", url=path.as_uri(), sha256=digest)


def test_every_entry_has_a_way_to_get_it_and_a_licence() -> None:
    for name, entry in known_weights().items():
        assert entry.licence, name
        assert entry.source, name
        assert entry.bundled or entry.url or entry.how_to_get, name


def test_every_download_can_be_checked() -> None:
    for name, entry in known_weights().items():
        if entry.url is not None:
            assert re.fullmatch("[0-9a-f]{8}|[0-9a-f]{64}", entry.sha256 or ""), name


def test_no_two_files_share_a_place_in_the_cache() -> None:
    files = [entry.file for entry in known_weights().values()]
    assert len(files) == len(set(files))


def test_openais_hash_is_that_of_its_own_address() -> None:
    entry = shared_weights()["openai:RN50"]
    assert entry.sha256 == "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"
    assert entry.file == "openai-RN50.pt"


def test_every_clip_that_is_known_by_its_file_has_quick_gelu() -> None:
    """A file's shapes do not tell its activation, so loading relies on this."""
    names = [name for name in shared_weights() if not name.startswith("torchvision")]
    assert len(names) == 12
    for name in names:
        tag, architecture = name.split(":")
        assert open_clip.get_pretrained_cfg(architecture, tag)["quick_gelu"]


def test_methods_are_found_by_their_folders() -> None:
    assert "regionclip" in list_methods()


def test_a_file_in_the_cache_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "rn50.pth").write_bytes(b"put here by hand")
    assert fetch_weights(BY_HAND, cache_folder=tmp_path) == tmp_path / "rn50.pth"


def test_a_file_is_downloaded_once(tmp_path: Path) -> None:
    (tmp_path / "released.pth").write_bytes(b"weights")
    entry = to_download(tmp_path / "released.pth")
    path = fetch_weights(entry, cache_folder=tmp_path / "cache")
    assert path.read_bytes() == b"weights"
    (tmp_path / "released.pth").unlink()
    assert fetch_weights(entry, cache_folder=tmp_path / "cache") == path


def test_a_file_without_an_address_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        DownloadError,
        match=r"rn50\.pth cannot be downloaded by program: ask the authors; then give its path",
    ):
        fetch_weights(BY_HAND, cache_folder=tmp_path)


def test_a_bundled_file_lies_in_the_package() -> None:
    entry = replace(BY_HAND, how_to_get="", bundled=True, file="class_names.json")
    assert fetch_weights(entry).is_file()


def test_an_unknown_name_is_answered_with_similar_ones() -> None:
    with pytest.raises(ValueError, match="called 'regionclip-cc-rn5O'; did you mean regionclip-cc"):
        find_entry("regionclip-cc-rn5O", known_weights())
    with pytest.raises(ValueError, match="called 'xyz'; 'regionclip models list' tells"):
        find_entry("xyz", known_weights())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"how_to_get": ""}, r"entry of rn50\.pth must have exactly one of url, bundled and how"),
        ({"bundled": True}, "must have exactly one of"),
        ({"how_to_get": "", "url": "file://host/x"}, "has a url but no sha256 to check it by"),
    ],
)
def test_an_entry_without_a_single_checked_way_is_refused(
    change: dict[str, str | bool], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(BY_HAND, **change)


def test_the_cache_is_in_the_users_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert default_cache_folder() == tmp_path / ".cache" / "regionclip"
