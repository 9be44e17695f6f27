import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import regionclip
from regionclip.methods.clim import reading as clim
from regionclip.methods.clim.config import ClimConfig
from regionclip.methods.clim.model import Clim
from regionclip.methods.clipself import reading as clipself
from regionclip.methods.clipself.config import ClipSelfConfig
from regionclip.methods.clipself.model import ClipSelf
from regionclip.recipes import read_recipe
from regionclip.train import train
from regionclip.training.engine import make_accelerator
from tests.fvit_files import TINY_EVA, TINY_VIT, detect_one
from tests.processes import run_command, run_together
from tests.runs import assert_same_weights, entries, losses, training
from tests.tiny_fvit_recipe import write_recipe

MASKS = ("model.mask_head=true", "learner.train_masks=true")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path)


def test_a_detector_is_trained_measured_and_used(recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    weights = train(read_recipe(recipe, MASKS), run)
    before, after = load_file(tmp_path / "start.safetensors"), load_file(weights)
    for name, tensor in before.items():
        if name.startswith("encoder."):
            assert torch.equal(tensor, after[name]), name
    assert {"objectness", "anchors", "classes", "boxes", "masks"} <= entries(run)[1].keys()
    measured = [each for each in entries(run) if "evaluation" in each]
    assert [each["step"] for each in measured] == [0, 2, 4]
    assert {"ap50_novel", "ap50_base", "ap50_all"} <= measured[0]["evaluation"].keys()
    detector = regionclip.load(weights)
    image = next((tmp_path / "data" / "images").glob("*.png"))
    found = detect_one(detector, image, ["a word that nobody trained", "anchor"])
    assert found.class_names == ("a word that nobody trained", "anchor")
    own = detect_one(detector, image)
    names = json.loads((tmp_path / "data" / "images" / "instances_val.json").read_text())
    assert set(own.class_names) == {each["name"] for each in names["categories"]}
    assert regionclip.load(run / "best.safetensors").encoder_id == detector.encoder_id


def test_the_word_background_stands_for_no_class_where_nothing_is_learned(
    recipe: Path, tmp_path: Path
) -> None:
    changes = ["model.background=text", "optimization.steps=1", "data.val="]
    weights = train(read_recipe(recipe, changes), tmp_path / "run")
    detector = regionclip.load(weights)
    expected = detector.vocabulary(["background"]).embeddings[0]
    torch.testing.assert_close(load_file(weights)["background"], expected)


@pytest.mark.parametrize("kind", ["vit", "eva"])
def test_a_detector_is_trained_on_a_frozen_transformer(
    recipe: Path, tmp_path: Path, kind: str
) -> None:
    start = write_transformer(tmp_path / "transformer.safetensors", kind)
    changes = [f"start={start}", "model.projection=false", "model.background=text"]
    changes += ["model.head_width=12", "optimization.steps=1", "data.val="]
    weights = train(read_recipe(recipe, changes), tmp_path / "run")
    before, after = load_file(start), load_file(weights)
    assert before.keys() == {name for name in after if name.startswith("encoder.")}
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
    assert {name.split(".")[0] for name in after} >= {"scales", "neck", "rpn_head", "box_head"}
    image = next((tmp_path / "data" / "images").glob("*.png"))
    found = detect_one(regionclip.load(weights), image, ["cat", "anchor"])
    assert found.class_names == ("cat", "anchor")


def write_transformer(path: Path, kind: str) -> Path:
    """A small dense CLIP with random weights, as its training leaves it."""
    torch.manual_seed(0)
    if kind == "vit":
        clim.save_model(path, Clim(ClimConfig(vit=TINY_VIT)))
    else:
        clipself.save_model(path, ClipSelf(ClipSelfConfig(encoder=TINY_EVA)))
    return path


def test_a_recipe_cannot_name_another_frozen_clip(recipe: Path, tmp_path: Path) -> None:
    changed = tmp_path / "other.toml"
    vit = "".join(f"{name} = {json.dumps(each)}\n" for name, each in asdict(TINY_VIT).items())
    changed.write_text(recipe.read_text() + "\n[model.vit]\n" + vit)
    with pytest.raises(ValueError, match="leave resnet, vit, eva out of"):
        train(read_recipe(changed), tmp_path / "run")


@pytest.mark.usefixtures("one_thread")
def test_an_interrupted_run_ends_where_an_unbroken_one_does(recipe: Path, tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def interrupt(stage: str, step: int, steps: int, loss: float) -> None:
        if step == 3:
            raise StoppedError

    unmeasured = read_recipe(recipe, ["data.val="])
    whole = load_file(train(unmeasured, tmp_path / "whole"))
    with pytest.raises(StoppedError):
        train(unmeasured, tmp_path / "broken", progress=interrupt)
    resumed = load_file(train(unmeasured, tmp_path / "broken"))
    assert losses(tmp_path / "broken", "detector") == losses(tmp_path / "whole", "detector")
    for name, own in whole.items():
        assert torch.equal(own, resumed[name]), name


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.usefixtures("one_thread")
def test_two_processes_equal_one(recipe: Path, tmp_path: Path) -> None:
    # AdamW would move what has no gradient but rounding as far as anything else
    changed = tmp_path / "two.toml"
    changed.write_text(recipe.read_text().replace('"adamw"', '"sgd"'))
    one, two = tmp_path / "one", tmp_path / "two"
    changes = (*MASKS, "optimization.steps=2", "data.val=")
    train(read_recipe(changed, changes), one, accelerator=make_accelerator("fp32", device="cpu"))
    words = [each for own in changes for each in ("--set", own)]
    run_together(run_command, *training(changed, two), *words, logs=tmp_path / "logs")
    assert losses(two, "detector") == pytest.approx(losses(one, "detector"), rel=1e-4)
    assert_same_weights(one, two)


def test_what_does_not_go_together_is_refused(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a mask head is there to be trained"):
        read_recipe(recipe, MASKS[:1])
    weights = train(read_recipe(recipe, ["optimization.steps=0", "data.val="]), tmp_path / "run")
    with pytest.raises(ValueError, match="a detector on the maps of a frozen CLIP"):
        regionclip.load(weights, regions="crops")
    with pytest.raises(ValueError, match="a detector on the maps of a frozen CLIP"):
        regionclip.load(weights, region_prompt=tmp_path / "start.safetensors")
