import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pyarrow import parquet

from regionclip import load
from regionclip.cli import main
from regionclip.cli.region_files import RegionTable
from regionclip.detect import Detector
from regionclip.structures import PreparedImage

OUTPUT = Path("out")
TABLE = OUTPUT / "regions.parquet"


@pytest.fixture
def embed(model_file: str, photos: Path) -> Any:
    """Runs the command on a grid, with 4 regions per image."""

    def run(*arguments: str) -> int:
        options = {
            "--model": model_file,
            "--proposals": "grid",
            "--device": "cpu",
            "--templates": "none",
            "--min-score": "0",
            "--max-detections": "4",
            "--max-regions": "4",
            "--output": "out",
        }
        own = [f"{name}={value}" for name, value in options.items() if name not in arguments]
        return main(["embed-regions", *arguments, *own])

    return run


def rows() -> list[dict[str, Any]]:
    return parquet.read_table(TABLE).to_pylist()


def test_proposals_become_rows_with_their_vectors(
    embed: Any, model_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert embed("photos") == 0
    found = rows()
    assert [row["image"] for row in found[::4]] == [
        "photos/a.jpg",
        "photos/b.png",
        "photos/sub/a.jpg",
    ]
    assert set(found[0]) == {"image", "x0", "y0", "x1", "y1", "objectness", "feature"}
    assert [found[0][corner] for corner in ("x0", "y0", "x1", "y1")] == [0, 0, 60, 40]
    assert found[0]["objectness"] is None
    detector = load(model_file, proposals="grid")
    ((proposals, features),) = detector.propose_and_embed([detector.prepare("photos/a.jpg")])
    vectors = torch.tensor([row["feature"] for row in found[:4]])
    assert torch.allclose(vectors, features[:4], atol=1e-5)
    assert torch.equal(torch.tensor(found[3]["y1"]), proposals.boxes[3, 3])
    assert "12 regions in out" in capsys.readouterr().out
    assert sorted(path.name for path in OUTPUT.iterdir()) == ["images.jsonl", "regions.parquet"]


def test_vectors_may_be_those_of_whole_crops(
    embed: Any, model_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert embed("photos/a.jpg", "--regions", "crops") == 0
    detector = load(model_file, regions="crops")
    boxes = torch.tensor([[row[corner] for corner in ("x0", "y0", "x1", "y1")] for row in rows()])
    expected = detector.encode_regions("photos/a.jpg", boxes)
    vectors = torch.tensor([row["feature"] for row in rows()])
    assert torch.allclose(vectors, expected, atol=1e-5)
    assert not torch.allclose(
        vectors, load(model_file).encode_regions("photos/a.jpg", boxes), atol=1e-3
    )
    assert embed("photos/a.jpg") == 2
    assert 'regions was "crops", now "map"' in capsys.readouterr().err


def test_the_file_says_which_model_made_it(embed: Any, model_file: str) -> None:
    assert embed("photos", "--classes", "cat, dog") == 0
    metadata = parquet.read_schema(TABLE).metadata
    assert metadata[b"model"].decode() == model_file
    assert metadata[b"encoder_id"].decode() == load(model_file).encoder_id
    assert json.loads(metadata[b"class_names"]) == ["cat", "dog"]


def test_detections_have_a_class_and_its_probability(embed: Any) -> None:
    assert embed("photos", "--classes", "cat, dog") == 0
    for row in rows():
        assert row["class"] == ("cat", "dog")[row["label"]]
        assert row["score"] == pytest.approx(row["prob"], abs=1e-5)  # a grid has no objectness


def test_all_probabilities_end_with_the_background_and_sum_to_one(embed: Any) -> None:
    options = ["--probs", "full", "--feature-dtype", "float16"]
    assert embed("photos", "--classes", "cat, dog", *options) == 0
    assert str(parquet.read_schema(TABLE).field("feature").type.value_type) == "halffloat"
    for row in rows():
        assert len(row["probs"]) == 3
        assert sum(row["probs"]) == pytest.approx(1, abs=2e-3)
        assert row["probs"][row["label"]] == pytest.approx(row["score"], abs=1e-3)


def test_pth_files_are_those_of_the_original(embed: Any) -> None:
    Path("photos/a.png").write_bytes(Path("photos/b.png").read_bytes())
    Path("photos/a.b.png").write_bytes(Path("photos/b.png").read_bytes())
    assert embed("photos", "--format", "pth") == 0
    files = sorted(path.relative_to(OUTPUT).as_posix() for path in OUTPUT.rglob("*.pth"))
    assert files == ["a.b.pth", "a.png.pth", "a.pth", "b.pth", "sub/a.pth"]
    content = torch.load(OUTPUT / "a.pth", weights_only=True)
    assert list(content) == ["boxes", "feats"]
    assert content["boxes"].shape == (4, 4)
    assert content["feats"].shape == (4, 12)
    assert content["boxes"].dtype == content["feats"].dtype == torch.float32


def test_pth_files_of_detections_have_classes_and_probabilities(embed: Any) -> None:
    assert embed("photos", "--format", "pth", "--classes", "cat, dog") == 0
    content = torch.load(OUTPUT / "sub" / "a.pth", weights_only=True)
    assert list(content) == ["boxes", "classes", "probs", "feats"]
    assert content["classes"].dtype == torch.int64
    assert content["probs"].shape == (4, 3)
    assert content["probs"].dtype == torch.float32
    assert torch.allclose(content["probs"].sum(dim=1), torch.ones(4))
    size = (OUTPUT / "sub" / "a.pth").stat().st_size
    assert size < 8000  # a view would have dragged the whole batch along


def test_no_regions_are_fine(embed: Any) -> None:
    assert embed("photos", "--classes", "cat", "--min-score", "2") == 0
    assert rows() == []
    assert (
        embed(
            "photos", "--classes", "cat", "--min-score", "2", "--format", "pth", "--output", "files"
        )
        == 0
    )
    assert torch.load("files/a.pth", weights_only=True)["feats"].shape == (0, 12)


def test_its_table_serves_as_proposals(embed: Any) -> None:
    assert embed("photos") == 0
    first = rows()
    assert embed("photos", "--proposals", str(TABLE), "--output", "again") == 0
    again = parquet.read_table("again/regions.parquet").to_pylist()
    assert [row["x1"] for row in again] == pytest.approx([row["x1"] for row in first])


def count_images(monkeypatch: pytest.MonkeyPatch, fail_at: int | None = None) -> list[str]:
    seen: list[str] = []
    original = Detector.propose_and_embed

    def counted(self: Detector, images: list[PreparedImage]) -> Any:
        if fail_at is not None and len(seen) >= fail_at:
            raise KeyboardInterrupt
        seen.extend(image.name for image in images)
        return original(self, images)

    monkeypatch.setattr(Detector, "propose_and_embed", counted)
    return seen


@pytest.mark.parametrize("form", ["parquet", "pth"])
def test_an_interrupt_costs_nothing_that_was_done(
    embed: Any, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    with monkeypatch.context() as patch:
        count_images(patch, fail_at=2)
        assert embed("photos", "--format", form) == 130
    seen = count_images(monkeypatch)
    assert embed("photos", "--format", form) == 0
    assert seen == ["photos/sub/a.jpg"]
    if form == "parquet":
        assert [row["image"] for row in rows()[::4]] == [
            "photos/a.jpg",
            "photos/b.png",
            "photos/sub/a.jpg",
        ]
        assert not (OUTPUT / "parts").exists()
    else:
        assert len(list(OUTPUT.rglob("*.pth"))) == 3


def test_more_images_are_added_and_changed_ones_replaced(
    embed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = count_images(monkeypatch)
    assert embed("photos/a.jpg", "photos/b.png") == 0
    before = rows()
    Path("photos/a.jpg").write_bytes(Path("photos/sub/a.jpg").read_bytes())
    assert embed("photos") == 0
    assert seen[2:] == ["photos/a.jpg", "photos/sub/a.jpg"]
    after = rows()
    assert [row["image"] for row in after[::4]] == [
        "photos/b.png",
        "photos/a.jpg",
        "photos/sub/a.jpg",
    ]
    assert after[:4] == before[4:]
    assert after[4]["feature"] == after[8]["feature"] != before[0]["feature"]


def test_a_stop_between_merging_and_tidying_doubles_nothing(
    embed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Path.unlink

    def stopped(self: Path, missing_ok: bool = False) -> None:
        if self.parent.name == "parts" and not self.name.startswith("."):
            raise KeyboardInterrupt
        original(self, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stopped)
        assert embed("photos") == 130
    expected = rows()
    assert (OUTPUT / "parts").exists()
    assert embed("photos") == 0
    assert rows() == expected
    assert len(expected) == 12
    assert not (OUTPUT / "parts").exists()


def test_starting_over_deletes_what_there_was(embed: Any) -> None:
    assert embed("photos") == 0
    assert embed("photos/b.png", "--no-resume") == 0
    assert {row["image"] for row in rows()} == {"photos/b.png"}


def test_parts_are_merged_without_holding_them_all(
    embed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regionclip.cli.region_files.ROWS_PER_PART", 1)
    num_flushes = 0
    original = RegionTable.flush

    def counted(self: RegionTable) -> None:
        nonlocal num_flushes
        num_flushes += 1
        original(self)

    monkeypatch.setattr(RegionTable, "flush", counted)
    assert embed("photos") == 0
    assert num_flushes >= 3
    assert len(rows()) == 12
    assert parquet.ParquetFile(TABLE).num_row_groups == 3


def test_bad_images_are_named_and_the_rest_goes_on(
    embed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("photos/a0.jpg").touch()
    assert embed("photos") == 1
    assert len(rows()) == 12
    captured = capsys.readouterr()
    assert "photos/a0.jpg: is empty (0 bytes)" in captured.err
    assert "3 images done, 1 could not be read" in captured.out


def test_what_cannot_be_done_is_refused(embed: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert embed("photos", "--max-regions", "0") == 2
    assert "--max-regions must be at least 1, got 0" in capsys.readouterr().err
    OUTPUT.mkdir()
    TABLE.write_bytes(b"PAR1 something else")
    assert embed("photos") == 2
    assert "regions.parquet is damaged, or of another program" in capsys.readouterr().err
