import json
from pathlib import Path

import pytest
from PIL import Image

from regionclip.cli import main


def test_data_icons_writes_pictures_boxes_and_captions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "scenes"
    assert main(["data", "icons", "--output", str(folder), "--num-scenes", "3"]) == 0
    pictures = sorted((folder / "images").iterdir())
    instances = json.loads((folder / "instances.json").read_text())
    captions = json.loads((folder / "captions.json").read_text())
    assert [each["file_name"] for each in instances["images"]] == [each.name for each in pictures]
    assert len(captions["annotations"]) == len(pictures) == 3
    assert "3 scenes" in capsys.readouterr().out


def test_data_icons_draws_the_same_for_the_same_seed_and_domain(tmp_path: Path) -> None:
    pixels = []
    for run, domain in enumerate(("fog", "fog", "night")):
        folder = tmp_path / str(run)
        options = ["--num-scenes", "1", "--seed", "5", "--domain", domain]
        assert main(["data", "icons", "--output", str(folder), *options]) == 0
        with Image.open(folder / "images" / "000000.png") as image:
            pixels.append(image.tobytes())
    assert pixels[0] == pixels[1]
    assert pixels[0] != pixels[2]


def test_data_icons_refuses_a_negative_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "icons", "--output", str(tmp_path), "--num-scenes", "-1"]) == 2
    assert "num_scenes must not be negative, got -1" in capsys.readouterr().err
