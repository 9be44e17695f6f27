from pathlib import Path

import torch

from regionclip.cli.contents import digest_of, digest_of_rows, known_by


def test_a_digest_is_blake2b_of_the_whole_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    # printf abc | b2sum -l 128
    assert digest_of(tmp_path / "file") == "cf4ab791c62b8d2b2109c90275287816"
    (tmp_path / "file").write_bytes(bytes(3_000_000))
    zeros = digest_of(tmp_path / "file")
    (tmp_path / "file").write_bytes(bytes(2_999_999) + b"\x01")
    assert digest_of(tmp_path / "file") != zeros


def test_a_folder_is_known_by_its_files(tmp_path: Path) -> None:
    (tmp_path / "boxes").mkdir()
    (tmp_path / "boxes" / "a.parquet").write_bytes(b"abc")
    before = digest_of(tmp_path / "boxes")
    assert digest_of(tmp_path / "boxes") == before
    (tmp_path / "boxes" / "b.parquet").write_bytes(b"abc")
    assert digest_of(tmp_path / "boxes") != before


def test_what_has_no_file_is_known_by_its_name(tmp_path: Path) -> None:
    assert known_by("grid", None) == "grid"
    (tmp_path / "file").write_bytes(b"abc")
    known = known_by("a name", tmp_path / "file")
    assert known == {"name": "a name", "content": digest_of(tmp_path / "file")}


def test_rows_are_the_same_by_their_numbers_and_shape() -> None:
    rows = torch.arange(6.0).reshape(2, 3)
    assert digest_of_rows(rows) == digest_of_rows(rows.T.contiguous().T)
    others = (rows + 1, rows.reshape(3, 2), rows[:0])
    assert len({digest_of_rows(each) for each in (rows, *others)}) == 4
