import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pyarrow import parquet

from regionclip import open_proposals
from regionclip.cli import main
from regionclip.data.augmentation import Augmentation
from regionclip.data.caption_loading import caption_batches
from regionclip.data.caption_sources import CaptionSource, open_captions, stored_boxes
from regionclip.data.sampling import Loading
from regionclip.structures import PreparedImage
from tests.data.made_shards import members, tar, write_shards

OUTPUT = Path("out")


def propose(*arguments: str) -> int:
    options = {"--proposals": "grid", "--device": "cpu", "--output": "out"}
    own = [f"{name}={value}" for name, value in options.items() if name not in arguments]
    return main(["propose", *arguments, *own])


def files() -> list[str]:
    return sorted(path.name for path in OUTPUT.glob("*.parquet"))


def rows(file: str) -> list[dict[str, Any]]:
    return parquet.read_table(OUTPUT / file).to_pylist()


def test_boxes_of_images_are_in_their_original_pixels(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert propose("photos", "--max-proposals", "3", "--images-per-part", "2") == 0
    assert files() == ["images-00000.parquet", "images-00001.parquet"]
    found = rows("images-00000.parquet")
    assert [row["image"] for row in found[::3]] == ["photos/a.jpg", "photos/b.png"]
    assert [found[0][corner] for corner in ("x0", "y0", "x1", "y1")] == [0, 0, 60, 40]
    assert found[0]["objectness"] is None
    assert "9 boxes of 3 images in out" in capsys.readouterr().out


def test_stored_boxes_are_proposals_of_any_command(photos: Path) -> None:
    assert propose("photos", "--max-proposals", "4") == 0
    stored, drawn = open_proposals("out"), open_proposals("grid", max_proposals=4)
    image = PreparedImage(torch.zeros(3, 80, 120), (40, 60), "photos/sub/a.jpg")
    (own,), (expected,) = stored.propose([image]), drawn.propose([image])
    assert torch.allclose(own.boxes, expected.boxes, atol=1e-3)
    assert propose("photos", "--proposals", "out", "--output", "again") == 0
    assert propose("photos", "--proposals", "random", "--output", "random") == 0


def test_shards_have_files_of_their_own_that_training_finds(workspace: Path) -> None:
    write_shards(workspace, [3, 1])
    assert propose("[01].tar", "--max-proposals", "2", "--images-per-part", "2") == 0
    assert files() == ["0-00000.parquet", "0-00001.parquet", "1-00000.parquet"]
    assert {row["image"] for row in rows("1-00000.parquet")} == {"1.tar/b0.png"}
    source = CaptionSource(train=str(workspace), proposals="out")
    images = open_captions(source, resume=True, is_main=True)
    loading = Loading(
        augmentation=Augmentation(shortest_sides=(40,), longest_side=80, flip_share=0.0),
        **{"batch_size": 4, "part_size": 4, "num_parts": 1, "num_workers": 0},
    )
    (batch,) = caption_batches(images, loading, proposer=stored_boxes(source, images))(0)
    assert batch.proposals is not None
    assert sorted(batch.names) == ["0.tar/a0.png", "0.tar/a1.png", "0.tar/a2.png", "1.tar/b0.png"]
    # the whole image comes first in a grid: 30x20 pixels, twice as large
    assert [each.boxes[0].tolist() for each in batch.proposals] == [[0, 0, 60, 40]] * 4
    (OUTPUT / "1-00000.parquet").unlink()
    with pytest.raises(ValueError, match=r"out has boxes for 1 of 2 shards \(none for 1\.tar\)"):
        stored_boxes(source, images)


def test_a_command_that_was_stopped_goes_on(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shards(workspace, [4])
    seen: list[str] = []

    class Stopping:
        def propose(self, images: list[PreparedImage]) -> list[Any]:
            seen.extend(image.name for image in images)
            if len(seen) == 3:
                raise KeyboardInterrupt
            return open_proposals("grid").propose(images)

    monkeypatch.setattr("regionclip.loading.proposals.open_proposals", lambda *_, **__: Stopping())
    assert propose("0.tar", "--images-per-part", "2") == 130
    assert files() == ["0-00000.parquet"]
    assert propose("0.tar", "--images-per-part", "2") == 0
    # one image was computed twice
    assert [name.partition("/")[2][:2] for name in seen] == ["a0", "a1", "a2", "a2", "a3"]
    assert files() == ["0-00000.parquet", "0-00001.parquet"]
    assert "of 4 images in out" in capsys.readouterr().out
    assert propose("0.tar", "--images-per-part", "2", "--no-resume") == 0
    assert len(seen) == 9


def test_changed_images_are_done_again_and_those_that_are_gone_are_deleted(photos: Path) -> None:
    assert propose("photos", "--images-per-part", "1") == 0
    before = {name: (OUTPUT / name).stat().st_mtime_ns for name in files()}
    Image.new("RGB", (30, 30)).save(photos / "b.png")
    (photos / "sub" / "a.jpg").unlink()
    assert propose("photos", "--images-per-part", "1") == 0
    assert files() == ["images-00000.parquet", "images-00001.parquet"]
    assert (OUTPUT / "images-00000.parquet").stat().st_mtime_ns == before["images-00000.parquet"]
    assert rows("images-00001.parquet")[0]["x1"] == 30


def test_starting_over_deletes_no_files_of_others(photos: Path) -> None:
    OUTPUT.mkdir()
    others = {"train-00000-of-00010.parquet", "own-00000.parquet"}
    for name in others:
        (OUTPUT / name).write_bytes(b"of another program")
    outside = photos.parent / "outside-00000.parquet"
    outside.write_bytes(b"of another program")
    assert propose("photos", "--images-per-part", "1", "--no-resume") == 0
    with (OUTPUT / "parts.jsonl").open("a") as journal:
        journal.write('{"image": "x", "stamp": [], "part": "../outside-00000.parquet"}\n{"cut')
    assert propose("photos", "--images-per-part", "3", "--no-resume") == 0
    assert set(files()) == others | {"images-00000.parquet"}
    assert outside.exists()


def test_other_settings_are_refused(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert propose("photos") == 0
    assert propose("photos", "--max-proposals", "5") == 2
    assert "max_proposals was 300, now 5; use another --output" in capsys.readouterr().err


def test_what_cannot_be_read_is_named_and_counted(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files_of_shard = members(["a", "b", "c"])
    files_of_shard["b.png"] = b"no image"
    content = tar(files_of_shard)
    Path("s.tar").write_bytes(content[: content.index(b"c.json") + 700])
    assert propose("s.tar", "--max-proposals", "1") == 1
    said = capsys.readouterr()
    assert "b.png: is not an image" in said.err
    assert "s.tar is cut off" in said.err
    assert "1 could not be read (named when they came up); 1 shards are damaged" in said.out
    assert propose("s.tar", "--max-proposals", "1") == 1  # still so


def test_a_shard_of_which_nothing_can_be_read_is_named_and_has_an_empty_file(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write_shards(workspace, [2, 1, 1])
    whole = Path(paths[1]).read_bytes()
    Path(paths[1]).write_bytes(b"no archive")
    Path(paths[2]).write_bytes(tar({"a.txt": b"a dog"}))
    assert propose("[012].tar", "--max-proposals", "1") == 1
    said = capsys.readouterr()
    assert "1.tar cannot be read as an uncompressed tar archive" in said.err
    assert "2.tar has no image" in said.err
    assert "2 boxes of 2 images in out; 2 shards are damaged" in said.out
    assert rows("1-00000.parquet") == rows("2-00000.parquet") == []
    source = CaptionSource(train=str(workspace), proposals="out")
    assert stored_boxes(source, open_captions(source, resume=True, is_main=True)) is not None
    # mended, it is done
    Path(paths[1]).write_bytes(whole)
    assert propose("[012].tar", "--max-proposals", "1") == 1
    assert {row["image"] for row in rows("1-00000.parquet")} == {"1.tar/b0.png"}


def test_boxes_without_any_are_kept_as_such(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    boxes = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}
    Path("boxes.json").write_text(json.dumps(boxes))
    assert propose("photos/a.jpg", "--proposals", "boxes.json") == 0
    assert rows("images-00000.parquet") == []
    image = PreparedImage(torch.zeros(3, 4, 6), (40, 60), "photos/a.jpg")
    with caplog.at_level(logging.WARNING):
        assert len(open_proposals("out").propose([image])[0]) == 0
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no images given; name shards, files"),
        (("photos", "--nms-iou", "0"), "--nms-iou must be in (0, 1], got 0.0"),
        (("photos", "--images-per-part", "0"), "--images-per-part must be at least 1, got 0"),
        (("s3://bucket/0.tar",), "s3://bucket/0.tar lies elsewhere; get the shards onto this"),
        (("x/a.tar", "y/a.tar"), "two sources would be called a"),
        (("none*.tar",), "no shard matches none*.tar"),
        (("photos", "--proposals", "magic"), "unknown proposals 'magic'; expected grid, random"),
    ],
)
def test_what_cannot_be_done_is_said(
    photos: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert propose(*arguments) == 2
    assert message in capsys.readouterr().err
