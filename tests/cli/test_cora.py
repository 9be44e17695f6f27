"""Commands with a model whose boxes depend on the names that it is asked for."""

import json
from pathlib import Path

import pytest
from torchvision.transforms.functional import to_pil_image

from regionclip.cli import main
from regionclip.loading import load
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
