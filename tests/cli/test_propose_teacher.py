import json
import logging
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

import regionclip
from regionclip.cli import main
from regionclip.methods.cora.reading import save_region_prompt
from regionclip.methods.regionclip.reading import ReadModel, read_model, save_model
from regionclip.proposals.box_folder import BoxFolder
from regionclip.proposals.stored_features import ENCODER_ID
from regionclip.regions.embedder import RegionSource
from regionclip.structures import PreparedImage, Proposals
from tests.data.made_shards import write_shards
from tests.tiny_clip import tiny_clip

OUTPUT = Path("out")
WIDTH = 12


def propose(*arguments: str) -> int:
    options = {"--proposals": "grid", "--device": "cpu", "--output": "out"}
    options |= {"--shortest-side": "64", "--longest-side": "96", "--max-proposals": "5"}
    own = [f"{name}={value}" for name, value in options.items() if name not in arguments]
    return main(["propose", *arguments, *own])


def stored(name: str, model_file: str) -> Proposals:
    """As training gets them."""
    folder = BoxFolder(OUTPUT, features_of=regionclip.load(model_file).encoder_id)
    (found,) = folder.propose([PreparedImage(torch.zeros(3, 40, 60), (40, 60), name)])
    return found


@pytest.mark.parametrize("regions", ["map", "crops"])
def test_boxes_come_with_the_vectors_that_the_teacher_makes_of_them(
    photos: Path, model_file: str, regions: RegionSource
) -> None:
    assert propose("photos", "--teacher", model_file, "--teacher-regions", regions) == 0
    teacher = regionclip.load(model_file, regions=regions)
    for name in ("a.jpg", "b.png", "sub/a.jpg"):
        found = stored(f"photos/{name}", model_file)
        assert found.features is not None
        assert found.features.dtype == torch.float16
        assert len(found) == 5
        expected = teacher.encode_regions(photos / name, found.boxes)
        expected = torch.nn.functional.normalize(expected, dim=1)
        torch.testing.assert_close(found.features.float(), expected, rtol=0, atol=1e-3)


def test_the_file_says_whose_vectors_they_are(photos: Path, model_file: str) -> None:
    assert propose("photos", "--teacher", model_file, "--batch-size", "3") == 0
    file = parquet.ParquetFile(OUTPUT / "images-00000.parquet")
    assert file.schema_arrow.field("feature").type == pa.list_(pa.float16(), WIDTH)
    encoder_id = regionclip.load(model_file).encoder_id
    assert (file.schema_arrow.metadata or {})[ENCODER_ID].decode() == encoder_id
    groups = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    assert groups == [5, 5, 5]


def test_without_a_teacher_there_is_no_column(photos: Path) -> None:
    assert propose("photos") == 0
    file = parquet.ParquetFile(OUTPUT / "images-00000.parquet")
    assert "feature" not in file.schema_arrow.names
    assert file.num_row_groups == 1


def test_boxes_that_are_stored_already_get_vectors(photos: Path, model_file: str) -> None:
    assert propose("photos", "--output", "boxes") == 0
    assert propose("photos", "--proposals", "boxes", "--teacher", model_file) == 0
    assert len(stored("photos/b.png", model_file)) == 5


def test_images_without_boxes_are_kept_as_such(
    photos: Path, model_file: str, caplog: pytest.LogCaptureFixture
) -> None:
    listed = [{"id": row, "file_name": name} for row, name in enumerate(("a.jpg", "b.png"))]
    annotations = [{"image_id": 1, "bbox": [0, 0, 20, 20]}]
    Path("boxes.json").write_text(json.dumps({"images": listed, "annotations": annotations}))
    images = ("photos/a.jpg", "photos/b.png")
    assert propose(*images, "--proposals", "boxes.json", "--teacher", model_file) == 0
    with caplog.at_level(logging.WARNING):
        none, one = (stored(name, model_file) for name in images)
    assert caplog.text == ""
    assert none.features is not None
    assert none.features.shape == (0, WIDTH)
    assert one.features is not None
    assert one.features.shape == (1, WIDTH)


def test_a_shard_of_which_nothing_can_be_read_has_an_empty_file(
    workspace: Path, model_file: str
) -> None:
    paths = write_shards(workspace, [1, 1])
    Path(paths[0]).write_bytes(b"no archive")
    assert propose("[01].tar", "--teacher", model_file) == 1
    schema = parquet.read_schema(OUTPUT / "0-00000.parquet")
    assert schema.equals(parquet.read_schema(OUTPUT / "1-00000.parquet"), check_metadata=True)
    assert parquet.read_table(OUTPUT / "0-00000.parquet").num_rows == 0
    assert len(stored("1.tar/b0.png", model_file)) == 5


def test_other_settings_are_refused(
    photos: Path, model_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert propose("photos") == 0
    assert propose("photos", "--teacher", model_file) == 2
    assert "teacher was null, now" in capsys.readouterr().err
    assert propose("photos", "--teacher", model_file, "--output", "new") == 0
    assert propose("photos", "--teacher", model_file, "--output", "new") == 0
    assert propose("photos", "--output", "new") == 2
    assert "now null" in capsys.readouterr().err
    crops = ("--teacher", model_file, "--teacher-regions", "crops")
    assert propose("photos", *crops, "--output", "new") == 2
    assert 'teacher_regions was "map", now "crops"; use another' in capsys.readouterr().err


def test_the_teacher_pools_regions_by_a_region_prompt(
    photos: Path, model_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = 5 * tiny_clip(seed=1).visual.attnpool.positional_embedding
    save_region_prompt("prompt.pth", prompt)
    own = ("--teacher", model_file, "--region-prompt", "prompt.pth")
    assert propose("photos", *own) == 0
    found = stored("photos/b.png", model_file)
    teacher = regionclip.load(model_file, region_prompt="prompt.pth")
    expected = teacher.encode_regions(photos / "b.png", found.boxes)
    expected = torch.nn.functional.normalize(expected, dim=1)
    assert found.features is not None
    torch.testing.assert_close(found.features.float(), expected, rtol=0, atol=1e-3)
    plain = regionclip.load(model_file).encode_regions(photos / "b.png", found.boxes)
    assert not torch.allclose(torch.nn.functional.normalize(plain, dim=1), expected, atol=1e-2)
    assert propose("photos", "--teacher", model_file) == 2
    assert "region_prompt" in capsys.readouterr().err


def test_what_cannot_be_done_is_said(
    photos: Path, model_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert propose("photos", "--region-prompt", "prompt.pth") == 2
    assert "--region-prompt prompt.pth goes with --teacher MODEL" in capsys.readouterr().err
    assert propose("photos", "--teacher-regions", "crops") == 2
    assert "--teacher-regions crops goes with --teacher MODEL" in capsys.readouterr().err
    assert propose("photos", "--teacher", "magic") == 2
    assert "magic" in capsys.readouterr().err
    mute = ReadModel(read_model(model_file).model, has_text_tower=False, reports=())
    save_model("mute.safetensors", mute)
    assert propose("photos", "--teacher", "mute.safetensors") == 2
    assert "--teacher mute.safetensors has no text tower" in capsys.readouterr().err
    assert not OUTPUT.exists()
