import json
import logging
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import regionclip
from regionclip.data.readers import open_dataset
from regionclip.evaluation.finding import data_vocabulary, detect_dataset
from regionclip.evaluation.protocols import PROTOCOLS
from regionclip.flows.fvit import detector_on
from regionclip.methods.clim import reading as clim
from regionclip.methods.clim.config import ClimConfig
from regionclip.methods.clim.model import Clim
from regionclip.methods.clipself import reading as clipself
from regionclip.methods.clipself.config import ClipSelfConfig
from regionclip.methods.clipself.model import ClipSelf
from regionclip.recipes import read_recipe
from regionclip.recipes.fvit import FvitRecipe
from regionclip.train import train
from regionclip.training.engine import make_accelerator
from tests.fvit_files import TINY_EVA, TINY_VIT, detect_one
from tests.processes import run_command, run_together
from tests.runs import assert_same_weights, entries, losses, training
from tests.tiny_clip import TINY
from tests.tiny_fvit_recipe import write_recipe

MASKS = ("model.mask_head=true", "learner.train_masks=true")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path)


def test_a_detector_is_trained_measured_and_used(
    recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    with caplog.at_level(logging.INFO, logger="regionclip"):
        weights = train(read_recipe(recipe, MASKS), run)
    # what it will take is said first, and that masks are not judged
    messages = [each.getMessage() for each in caplog.records]
    assert any("4 steps of" in each and "GB for the optimizer" in each for each in messages)
    assert any("boxes alone are measured" in each for each in messages)
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


def test_masks_are_measured_by_lviss_rules(recipe: Path, tmp_path: Path) -> None:
    val = tmp_path / "data" / "images" / "instances_val.json"
    content = json.loads(val.read_text())
    for number, each in enumerate(content["categories"]):
        each["frequency"] = "rcf"[number % 3]
    for each in content["annotations"]:
        left, top, width, height = each["bbox"]
        right, bottom = left + width, top + height
        each["segmentation"] = [[left, top, right, top, right, bottom, left, bottom]]
    lvis = val.with_name("lvis.json")
    lvis.write_text(json.dumps(content))
    changes = [*MASKS, "optimization.steps=0", f"data.val={lvis}", "measuring.metric=mask_ap_rare"]
    train(read_recipe(recipe, changes), tmp_path / "run")
    (figures,) = (each["evaluation"] for each in entries(tmp_path / "run") if "evaluation" in each)
    assert {"ap", "ap_rare", "mask_ap", "mask_ap_rare", "mask_ar300"} <= figures.keys()
    detector = regionclip.load(tmp_path / "run" / "model.safetensors")
    dataset = open_dataset(lvis)
    rules = PROTOCOLS["lvis-masks"]
    found = detect_dataset(
        detector, dataset, data_vocabulary(detector, dataset), rules.options(detector.defaults)
    )
    expected = rules.evaluate(dataset, found).metrics
    assert figures["mask_ar300"] == pytest.approx(expected["ar300"])
    assert figures["mask_ap50"] == pytest.approx(expected["ap50"])


def test_settings_of_another_frozen_clip_are_refused(recipe: Path, tmp_path: Path) -> None:
    start = write_transformer(tmp_path / "vit.safetensors", "vit")
    changes = [f"start={start}", "model.projection=false", "model.head_width=12"]
    for change, message in (
        (["model.token_blocks=[3, 5, 7, 10]"], r"has blocks 0 to 11, .* set model\.token_blocks"),
        (
            ["model.mean=[0.5, 0.5, 0.5]"],
            r"trained with \[0\.48.* set model\.mean and model\.std",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            train(read_recipe(recipe, [*changes, *change]), tmp_path / "run")
    own = replace(TINY_VIT, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    clim.save_model(start, Clim(ClimConfig(vit=own)))
    with pytest.raises(ValueError, match=r"was trained with \[0\.5, 0\.5, 0\.5\]"):
        train(read_recipe(recipe, changes), tmp_path / "run")
    eva = write_transformer(tmp_path / "eva.safetensors", "eva")
    with pytest.raises(ValueError, match="no file of a CLIP with OpenAI's vision transformer"):
        train(read_recipe(recipe, [f"start={eva}", "activation=gelu"]), tmp_path / "run")


def test_a_detector_is_trained_on_clims_resnet_and_on_what_its_start_computes_with(
    recipe: Path, tmp_path: Path
) -> None:
    resnet = tmp_path / "resnet.safetensors"
    torch.manual_seed(0)
    clim.save_model(resnet, Clim(ClimConfig(vit=None, resnet=TINY, pooling="attention")))
    vit = write_transformer(tmp_path / "vit.safetensors", "vit")
    for start, changes in ((resnet, []), (vit, ["activation=gelu"])):
        own = read_recipe(recipe, [f"start={start}", *changes])
        assert isinstance(own, FvitRecipe)
        model = detector_on(own, ("cat",))
        frozen = load_file(start)
        for name, tensor in model.encoder.state_dict().items():
            assert torch.equal(tensor, frozen[f"encoder.{name}"]), name
    assert model.config.vit == replace(TINY_VIT, quick_gelu=False)


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
