import json
import logging
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from regionclip.proposals.box_folder import SHARDS_KEPT, WITHOUT_BOXES, BoxFolder
from regionclip.proposals.proposer import Proposer
from regionclip.structures import PreparedImage, Proposals


def write(path: Path, rows: dict[str, float], *, without: tuple[str, ...] = ()) -> None:
    """One box per image, from 0 to ``x1``, and images without any."""
    table = pa.table(
        {
            "image": pa.array(list(rows), pa.string()),
            "x0": [0.0] * len(rows),
            "y0": [0.0] * len(rows),
            "x1": list(rows.values()),
            "y1": [10.0] * len(rows),
        }
    )
    parquet.write_table(table.replace_schema_metadata({WITHOUT_BOXES: json.dumps(without)}), path)


def found(folder: BoxFolder, name: str) -> Proposals:
    (proposals,) = folder.propose([PreparedImage(torch.zeros(3, 20, 40), (20, 40), name)])
    return proposals


def test_images_of_a_shard_are_found_wherever_the_shard_is(tmp_path: Path) -> None:
    write(tmp_path / "0-00000.parquet", {"0.tar/a.jpg": 1.0, "0.tar/x/a.jpg": 2.0})
    write(tmp_path / "0-00001.parquet", {"0.tar/b.jpg": 3.0})
    write(tmp_path / "1-00000.parquet", {"1.tar/a.jpg": 4.0})
    write(tmp_path / "images-00000.parquet", {"photos/a.jpg": 5.0})
    folder = BoxFolder(tmp_path)
    assert isinstance(folder, Proposer)
    for name, x1 in {
        "0.tar/a.jpg": 1,
        "0.tar/x/a.jpg": 2,
        "/data/0.tar/b.jpg": 3,
        "1.tar/a.jpg": 4,
        "/elsewhere/photos/a.jpg": 5,
    }.items():
        assert found(folder, name).boxes.tolist() == [[0, 0, x1, 10]]


def test_an_image_in_which_nothing_was_found_is_no_surprise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "0-00000.parquet", {"0.tar/a.jpg": 1.0}, without=("0.tar/b.jpg",))
    with caplog.at_level(logging.WARNING):
        assert len(found(BoxFolder(tmp_path), "0.tar/b.jpg")) == 0
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING):
        assert len(found(BoxFolder(tmp_path), "0.tar/c.jpg")) == 0
    assert "lists no boxes for 0.tar/c.jpg" in caplog.text


def test_few_shards_are_held_at_a_time(tmp_path: Path) -> None:
    for shard in range(SHARDS_KEPT + 1):
        write(tmp_path / f"{shard}-00000.parquet", {f"{shard}.tar/a.jpg": shard + 1.0})
    write(tmp_path / "images-00000.parquet", {"a.jpg": 9.0})
    folder = BoxFolder(tmp_path)
    for shard in range(SHARDS_KEPT + 1):
        found(folder, f"{shard}.tar/a.jpg")
    for path in tmp_path.glob("*.parquet"):
        path.unlink()
    for shard in range(1, SHARDS_KEPT + 1):
        assert found(folder, f"{shard}.tar/a.jpg").boxes[0, 2] == shard + 1
    assert found(folder, "a.jpg").boxes[0, 2] == 9  # those of images in no shard always are
    with pytest.raises(FileNotFoundError):
        found(folder, "0.tar/a.jpg")


def test_shards_without_boxes_are_named_before_training(tmp_path: Path) -> None:
    write(tmp_path / "0-00000.parquet", {"0.tar/a.jpg": 1.0})
    folder = BoxFolder(tmp_path)
    folder.check_shards(["0.tar"])
    with pytest.raises(ValueError, match=r"has boxes for 1 of 3 shards \(none for 1\.tar\); run"):
        folder.check_shards(["0.tar", "1.tar", "2.tar"])


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "regions.parquet", {"a.jpg": 1.0})
    with pytest.raises(ValueError, match=r"has no files of boxes .*'regionclip propose' writes"):
        BoxFolder(tmp_path)
