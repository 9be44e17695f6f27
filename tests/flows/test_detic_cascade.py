from pathlib import Path

import pytest
from safetensors.torch import load_file

import regionclip
from regionclip.recipes import read_recipe
from regionclip.structures import Detections
from regionclip.train import train
from regionclip.training.engine import make_accelerator
from tests.processes import run_command, run_together
from tests.runs import assert_same_weights, entries, losses, training
from tests.tiny_cascade_recipe import write_recipe


def test_a_cascade_is_trained_measured_and_used(tmp_path: Path) -> None:
    recipe, run = write_recipe(tmp_path), tmp_path / "run"
    weights = train(read_recipe(recipe), run)
    before, after = load_file(tmp_path / "start.safetensors"), load_file(weights)
    for name, tensor in before.items():
        if (
            name.startswith(("encoder.", "backbone.conv1", "backbone.layer1", "mask_head"))
            or ".bn" in name
        ):
            assert tensor.equal(after[name]), name
        if name.startswith(("center_head.heatmap", "stages.2.projection")):
            assert not tensor.equal(after[name]), name
    logged = entries(run)[1].keys()
    assert {"centers", "reach", "classes_2", "boxes_0"} <= logged
    assert all(each["boxes_0"] > 0 for each in entries(run) if "loss" in each)
    assert {"captions_0_of_mosaics", "tags_2_of_mosaics"} <= logged
    assert any("evaluation" in each for each in entries(run))
    found = regionclip.load(weights).detect(
        next((tmp_path / "data" / "images").glob("*.png")), ["anchor", "a new word"]
    )
    assert isinstance(found, Detections)
    assert found.class_names == ("anchor", "a new word")


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.usefixtures("one_thread")
def test_two_processes_equal_one(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    recipe.write_text(recipe.read_text().replace('"adamw"', '"sgd"'))
    one, two = tmp_path / "one", tmp_path / "two"
    # images of a step have two sizes, each process has one of them
    changes = ("data.val=", "augmentation.factors=[0.6, 1.2]")
    train(read_recipe(recipe, changes), one, accelerator=make_accelerator("fp32", device="cpu"))
    words = [each for own in changes for each in ("--set", own)]
    run_together(run_command, *training(recipe, two), *words, logs=tmp_path / "logs")
    assert losses(two, "detector") == pytest.approx(losses(one, "detector"), rel=1e-4)
    assert_same_weights(one, two)


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    with pytest.raises(ValueError, match="give one of them, got start="):
        read_recipe(recipe, ["backbone_weights=resnet50.pth"])
    with pytest.raises(ValueError, match=r"leave out \[model\]"):
        read_recipe(recipe, ["model.channels=128"])
    with pytest.raises(ValueError, match="give all three or none"):
        read_recipe(recipe, ["learner.captions=none", "learner.tags=none"])
