import json
from pathlib import Path

import pytest
from PIL import Image

from regionclip.cli import main


def write(folder: Path, bbox: list[float]) -> Path:
    Image.new("RGB", (40, 30)).save(folder / "a[1].png")
    content = {
        "images": [{"id": 1, "file_name": "a[1].png", "width": 40, "height": 30}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": bbox}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


def test_a_sound_data_set_ends_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(write(tmp_path, [0, 0, 5, 5]))]) == 0
    assert "1 images (1 opened), 1 boxes; nothing would be refused" in capsys.readouterr().out


def test_clipping_alone_ends_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(write(tmp_path, [0, 0, 50, 5]))]) == 0
    assert "training clips them to the image" in capsys.readouterr().out


def test_findings_end_with_1_and_go_to_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "out" / "report.json"
    source = str(write(tmp_path, [0, 0, 0, 5]))
    assert main(["data", "check", source, "--output", str(report)]) == 1
    output = capsys.readouterr().out
    assert "a[1].png: annotation" in output
    assert "something would be left out" in output
    assert json.loads(report.read_text())["findings"][0]["number"] == 1


def test_no_images_opens_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, [0, 0, 5, 5])
    (tmp_path / "a[1].png").unlink()
    assert main(["data", "check", str(path)]) == 1
    assert main(["data", "check", str(path), "--no-images"]) == 0
    assert "1 images (not opened)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.json"], "error: gone.json does not exist"),
        (["instances.json", "--workers", "0"], "error: --workers must be at least 1, got 0"),
        (["instances.json", "--split", "val"], "is a file, of which there is no split 'val'"),
        (["."], "error: . could be read"),
    ],
)
def test_what_cannot_be_read_ends_with_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    write(tmp_path, [0, 0, 5, 5])
    (tmp_path / "data.yaml").write_text("names: [cat]")
    monkeypatch.chdir(tmp_path)
    assert main(["data", "check", *arguments]) == 2
    assert message in capsys.readouterr().err
