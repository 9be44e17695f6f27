"""Commands with a model whose boxes depend on the names that it is asked for."""

import json
from pathlib import Path

import pytest
import torch
from pyarrow.parquet import read_table
from torchvision.transforms.functional import to_pil_image

from regionclip.cli import main
from regionclip.loading import load
from regionclip.methods.cora.reading import save_region_prompt
from regionclip.structures import Detections
from tests.cora_files import original_state, picture, save_original, tiny_cora

NAMES = ["cat", "traffic cone"]


@pytest.fixture
def model(workspace: Path) -> str:
    """A detector in the original's form, beside ``photo.png``."""
    to_pil_image(picture()).save("photo.png")
    return str(save_original(workspace / "cora.pth", original_state(tiny_cora())))


def test_detect_takes_the_models_own_boxes(model: str) -> None:
    options = ["--classes", ", ".join(NAMES), "--templates", "photo", "--device", "cpu"]
    assert main(["detect", "photo.png", "--model", model, *options, "--output", "found"]) == 0
    detector = load(model)
    expected = detector.detect("photo.png", detector.vocabulary(NAMES, templates="photo"))
    assert isinstance(expected, Detections)
    rows = json.loads(Path("found/detections.json").read_text())["annotations"]
    assert len(rows) == len(expected) > 0
    scores = [row["score"] for row in rows]
    assert scores == pytest.approx(expected.scores.tolist(), abs=1e-4)


def test_regions_without_names_come_from_elsewhere(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["embed-regions", "photo.png", "--model", model, "--device", "cpu"]
    assert main([*command, "--proposals", "grid", "--output", "regions"]) == 0
    # the general network that models without proposals get, which has to be downloaded
    assert main([*command, "--output", "others"]) == 2
    assert "fasterrcnn_resnet50_fpn_coco" in capsys.readouterr().err
    for option in (["--novel-classes", "cat"], ["--novel-factor", "2"]):
        assert main([*command, "--proposals", "grid", *option, "--output", "novel"]) == 2
        assert f"{option[0]} is about the classes to look for" in capsys.readouterr().err
    assert not Path("novel").exists()


def test_novel_classes_and_their_factor_are_the_users(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["detect", "photo.png", "--model", model, "--classes", ", ".join(NAMES)]
    command += ["--templates", "photo", "--device", "cpu", "--no-pictures"]
    options = ["--novel-classes", "cat", "--novel-factor", "3"]
    assert main([*command, *options, "--output", "found"]) == 0
    settings = json.loads(Path("found/detections.jsonl").read_text().splitlines()[0])
    assert {"names": ["cat"], "factor": 3.0} in find_values(settings, "novel")
    assert main([*command, "--novel-classes", "none", "--output", "none"]) == 0
    settings = json.loads(Path("none/detections.jsonl").read_text().splitlines()[0])
    assert {"names": [], "factor": None} in find_values(settings, "novel")
    assert main([*command, "--novel-factor", "0", "--output", "zero"]) == 2
    assert "factor of novel classes must be positive, got 0" in capsys.readouterr().err
    assert main([*command, "--novel-classes", "cta", "--output", "misspelt"]) == 2
    assert "novel class 'cta' is none of the 2 classes" in capsys.readouterr().err
    assert not Path("misspelt").exists()
    # boxes of a grid are whatever the classes are
    assert main([*command, *options, "--proposals", "grid", "--output", "grid"]) == 2
    assert "novel ones cannot be favoured" in " ".join(capsys.readouterr().err.split())


def find_values(content: object, key: str) -> list[object]:
    """What stands under a key, at any depth."""
    if not isinstance(content, dict):
        return []
    deeper = [found for own in content.values() for found in find_values(own, key)]
    return [content[key], *deeper] if key in content else deeper


def test_a_region_prompt_is_an_option_of_commands_that_run_a_model(
    model: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt = tiny_cora(seed=3).region_prompt
    save_region_prompt("prompt.pth", prompt)
    options = ["--model", model, "--proposals", "grid", "--max-regions", "5", "--device", "cpu"]
    command = ["embed-regions", "photo.png", *options]
    assert main([*command, "--region-prompt", "prompt.pth", "--output", "with"]) == 0
    assert main([*command, "--output", "without"]) == 0
    vectors = {
        name: torch.tensor(read_table(f"{name}/regions.parquet")["feature"].to_pylist())
        for name in ("with", "without")
    }
    assert vectors["with"].shape == vectors["without"].shape
    assert not torch.allclose(vectors["with"], vectors["without"], atol=1e-3)
    expected = load(model, region_prompt="prompt.pth", proposals="grid")
    prepared = expected.prepare("photo.png")
    (_, rows), *_ = expected.propose_and_embed([prepared])
    torch.testing.assert_close(vectors["with"], rows[:5], rtol=1e-4, atol=1e-5)
    assert main([*command, "--region-prompt", model, "--regions", "crops", "--output", "c"]) == 2
    assert "pools regions of a ResNet's layer3" in capsys.readouterr().err
