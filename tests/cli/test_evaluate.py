import json
from pathlib import Path

import pytest
import torch

from regionclip.cli import main
from regionclip.data.icons import BASE_NAMES, CLASS_NAMES, NOVEL_NAMES
from regionclip.methods.regionclip.config import RegionClipConfig
from regionclip.methods.regionclip.model import build
from regionclip.methods.regionclip.reading import ReadModel, save_model
from regionclip.proposals.rpn import RpnConfig, RpnSelection
from tests.tiny_clip import TINY


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A detector that has learned nothing."""
    torch.manual_seed(0)
    rpn = RpnConfig(
        layers=(1, 1, 1),
        width=8,
        pyramid_channels=None,
        anchor_sizes=((32.0, 64.0),),
        selection=RpnSelection(post_nms_topk=10),
    )
    config = RegionClipConfig(encoder=TINY, rpn=rpn, shortest_side=96, longest_side=96)
    path = tmp_path / "tiny.safetensors"
    save_model(path, ReadModel(build(config), has_text_tower=True, reports=()))
    return path


def test_evaluate_prints_the_splits_and_writes_every_class(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out" / "icons"
    options = ["--num-scenes", "3", "--output", str(folder), "--per-class"]
    assert main(["evaluate", str(weights), *options]) == 0
    content = json.loads((folder / "report.json").read_text())
    assert content["model"] == str(weights)
    assert content["num_images"] == 3
    assert [each["name"] for each in content["classes"]] == list(CLASS_NAMES)
    splits = [each["split"] for each in content["classes"]]
    assert (splits.count("base"), splits.count("novel")) == (len(BASE_NAMES), len(NOVEL_NAMES))
    assert content["metrics"]["ap50_all"] < 0.5
    output = capsys.readouterr().out
    for heading in ("all", "base", "novel", "AP50", "true boxes named right", "3 images"):
        assert heading in " ".join(output.split())
    markdown = (folder / "report.md").read_text()
    assert markdown.startswith(f"# {weights}")
    assert "| novel |" in markdown


def test_figures_on_icons_can_be_expected(weights: Path) -> None:
    arguments = ["evaluate", str(weights), "--num-scenes", "1"]
    assert main([*arguments, "--expect", "named_all=0", "--tolerance", "100"]) == 0
    assert main([*arguments, "--expect", "ap50_all=99"]) == 1


def test_evaluate_says_which_model_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tmp_path / "none.safetensors")]) == 2
    assert "none.safetensors" in capsys.readouterr().err


def test_evaluate_refuses_zero_scenes(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(weights), "--num-scenes", "0"]) == 2
    assert "num_scenes must be at least 1, got 0" in capsys.readouterr().err
