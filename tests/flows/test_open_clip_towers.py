"""Towers of open_clip's that have no form of ours: trained by each task, read, and used."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import regionclip
from regionclip.cli import main
from regionclip.recipes import read_recipe
from regionclip.regions.dense_regions import DenseRegions
from regionclip.train import train
from tests.painted_segments import write_segments
from tests.runs import losses
from tests.tiny_clim_recipes import write_clim_recipes
from tests.tiny_open_clip import write_convnext, write_siglip

TOWERS = {
    "convnext": (write_convnext, "visual.trunk.stages.3."),
    "siglip": (write_siglip, "visual.trunk.blocks.1."),
}
"""Who writes a tower, and its last group of parameters."""
CHANGES = {
    "clim": ("val=", "augmentation.side=64", "learner.mosaic_pixels=128"),
    "clipself": ("data.val=",),
    "pseudo-labels": ("data.val=",),
}


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_clim_recipes(tmp_path_factory.mktemp("recipes"))


@pytest.mark.parametrize("task", CHANGES)
@pytest.mark.parametrize("kind", TOWERS)
def test_a_tower_is_trained_and_read_again(
    recipes: dict[str, Path], kind: str, task: str, tmp_path: Path
) -> None:
    write, last = TOWERS[kind]
    start = write(tmp_path / "start.safetensors")
    changes = [f"start={start}", "optimization.steps=1", "learner.unlocked_groups=1"]
    weights = train(read_recipe(recipes[task], [*changes, *CHANGES[task]]), tmp_path / "run")
    before, after = load_file(start), load_file(weights)
    assert before.keys() == after.keys()
    moved = {name for name, own in before.items() if not own.equal(after[name])}
    # only captions are compared with the scale
    assert moved - {"logit_scale"} == {name for name in before if name.startswith(last)}
    assert ("logit_scale" in moved) == (task == "clim")
    assert losses(tmp_path / "run", task)[0] > 0
    model = regionclip.load(weights)
    assert isinstance(model.parts.regions, DenseRegions)
    image, boxes = (
        Image.effect_noise((100, 60), 90).convert("RGB"),
        torch.tensor([[5.0, 5, 60, 50]]),
    )
    vectors = model.encode_regions(image, boxes)
    assert vectors.shape == (1, 12)
    assert not vectors.equal(regionclip.load(start).encode_regions(image, boxes))
    # its words are those of the start
    assert model.encoder_id == regionclip.load(start).encoder_id


@pytest.mark.parametrize("write", [write_convnext, write_siglip])
def test_a_tower_names_given_boxes_and_masks(write: Callable[[Path], Path], tmp_path: Path) -> None:
    data, tower = write_segments(tmp_path / "data"), write(tmp_path / "tower.safetensors")
    words = ["evaluate", str(tower), "--data", str(data)]
    words += ["--image-root", str(data.parent / "images")]
    for protocol in ("region-macc", "mask-macc"):
        found = tmp_path / protocol
        assert main([*words, "--protocol", protocol, "--output", str(found)]) == 0
        report = json.loads((found / "report.json").read_text())
        assert report["splits"]["thing"]["boxes"] == report["splits"]["stuff"]["boxes"] == 1
        assert report["metrics"]["macc5"] == 1  # of three names
