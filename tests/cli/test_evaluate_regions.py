import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regionclip.cli import main
from regionclip.data.icons import write_coco
from regionclip.methods.fvit.reading import save_model
from tests.fvit_files import TINY_FVIT, tiny_fvit
from tests.painted_segments import write_segments
from tests.tiny_clim_recipes import write_tower
from tests.tiny_clip import TINY, tiny_clip


@pytest.mark.parametrize("protocol", ["region-macc", "mask-macc", "crop-macc"])
def test_a_dense_tower_names_things_and_stuff(protocol: str, tmp_path: Path) -> None:
    data = write_segments(tmp_path / "data")
    tower = write_tower(tmp_path / "tower.safetensors")
    words = ["evaluate", str(tower), "--data", str(data), "--protocol", protocol]
    words += ["--image-root", str(data.parent / "images"), "--output", str(tmp_path / "found")]
    assert main(words) == 0
    report = json.loads((tmp_path / "found" / "report.json").read_text())
    assert report["protocol"] == protocol
    assert report["splits"]["thing"]["boxes"] == report["splits"]["stuff"]["boxes"] == 1
    figures = report["metrics"]
    assert figures["macc1"] == (figures["macc1_thing"] + figures["macc1_stuff"]) / 2
    assert figures["macc5"] == 1  # of three names


def test_reports_say_which_words_stuff_was_asked_for(tmp_path: Path) -> None:
    data = write_segments(tmp_path / "data")
    tower = write_tower(tmp_path / "tower.safetensors")
    words = ["evaluate", str(tower), "--data", str(data), "--protocol", "mask-macc"]
    words += ["--image-root", str(data.parent / "images"), "--output", str(tmp_path / "found")]
    told = []
    for more in ([], ["--synonyms", "coco_panoptic", "--no-resume"]):
        assert main([*words, *more]) == 0
        told += json.loads((tmp_path / "found" / "report.json").read_text())["notes"]
    assert told[0].startswith("1 classes are asked for by the data's names, such as 'sky-other-m")
    assert told[1:] == ["1 classes are asked for by other words: sky-other-merged as sky."]


def test_the_frozen_clip_of_a_detector_names_masks_and_crops(tmp_path: Path) -> None:
    data = write_segments(tmp_path / "data")
    save_model(tmp_path / "vit.safetensors", tiny_fvit(TINY_FVIT))
    save_model(tmp_path / "resnet.safetensors", tiny_fvit())
    root = ["--data", str(data), "--image-root", str(data.parent / "images")]
    for protocol in ("mask-macc", "crop-macc"):
        words = ["evaluate", str(tmp_path / "vit.safetensors"), *root, "--protocol", protocol]
        assert main([*words, "--output", str(tmp_path / protocol)]) == 0
        report = json.loads((tmp_path / protocol / "report.json").read_text())
        assert report["metrics"]["macc5"] == 1
    words = ["evaluate", str(tmp_path / "resnet.safetensors"), *root, "--protocol"]
    assert main([*words, "mask-macc"]) == 2
    assert main([*words, "crop-macc"]) == 0


def test_plain_boxes_of_any_model_are_named(tmp_path: Path) -> None:
    data = write_segments(tmp_path / "data")
    content = json.loads(data.read_text())
    rows = [
        {**own, "image_id": each["image_id"]}
        for each in content["annotations"]
        for own in each["segments_info"]
    ]
    names = [{"id": each["id"], "name": each["name"]} for each in content["categories"]]
    plain = tmp_path / "plain.json"
    plain.write_text(json.dumps(content | {"annotations": rows, "categories": names}))
    root = ["--image-root", str(data.parent / "images")]
    words = ["evaluate", "icons", "--data", str(plain), *root, "--output", str(tmp_path / "found")]
    assert main([*words, "--protocol", "region-macc"]) == 0
    figures = json.loads((tmp_path / "found" / "report.json").read_text())["metrics"]
    assert figures.keys() == {"macc1", "macc5"}


def test_crops_and_masks_of_resnets_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_coco(tmp_path / "scenes", num_scenes=2, seed=0)
    words = ["evaluate", "icons", "--data", str(tmp_path / "scenes" / "instances.json")]
    words += ["--image-root", str(tmp_path / "scenes" / "images"), "--protocol", "crop-macc"]
    assert main([*words, "--output", str(tmp_path / "found")]) == 0
    report = json.loads((tmp_path / "found" / "report.json").read_text())
    # the small model was trained on boxes, and knows them as pictures of their own
    assert report["metrics"]["macc1"] > 0.5
    assert main([*words, "--protocol", "mask-macc"]) == 2
    assert "openai:RN50 with --regions dense" in capsys.readouterr().err
    data = write_segments(tmp_path / "data")
    # as a file of this layout is taken to be: with heads of 64 channels
    plain = tiny_clip(spec=replace(TINY, text_width=64, text_heads=1))
    torch.save(plain.clip.state_dict(), tmp_path / "rn.pt")
    words = ["evaluate", str(tmp_path / "rn.pt"), "--regions", "dense"]
    words += ["--data", str(data), "--image-root", str(data.parent / "images")]
    assert main([*words, "--protocol", "mask-macc"]) == 0
