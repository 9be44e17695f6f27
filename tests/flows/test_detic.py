import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import regionclip
from regionclip.flows.detic import detector_of_recipe
from regionclip.flows.run import Run
from regionclip.methods.detic.model import carry_classes
from regionclip.recipes import read_recipe
from regionclip.recipes.detic import DeticRecipe, check_parts
from regionclip.train import train
from regionclip.training.engine import make_accelerator
from tests.detic_files import detect_one, original_state, tiny_detic
from tests.processes import run_command, run_together
from tests.runs import assert_same_weights, entries, losses, training
from tests.tiny_dense import PLAIN, tiny_dense
from tests.tiny_detic_recipe import write_recipe

OF_PICTURES = {
    f"{name}_of_{kind}" for name in ("captions", "tags") for kind in ("images", "mosaics")
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path)


def test_a_detector_is_trained_measured_and_used(recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    weights = train(read_recipe(recipe), run)
    before, after = load_file(tmp_path / "start.safetensors"), load_file(weights)
    stays = ("encoder.", "proposer.backbone.conv1", "proposer.backbone.layer1", "background")
    changed = ("proposer.backbone.layer2.0.conv1", "proposer.head", "region_stage.0.conv2")
    changed += ("class_layer", "box_layers", "class_bias", "caption_bias", "tag_bias")
    for name, tensor in before.items():
        if name.startswith(stays) or ".bn" in name or ".downsample.1." in name:
            assert torch.equal(tensor, after[name]), name
        if name.startswith(changed):
            assert not torch.equal(tensor, after[name]), name
    assert {"objectness", "anchors", "classes", "boxes"} | OF_PICTURES <= entries(run)[1].keys()
    measured = [each for each in entries(run) if "evaluation" in each]
    assert {"ap50_novel", "ap50_base", "ap50_all"} <= measured[0]["evaluation"].keys()
    detector = regionclip.load(weights)
    image = next((tmp_path / "data" / "images").glob("*.png"))
    assert detect_one(detector, image, ["anchor", "a new word"]).class_names[1] == "a new word"
    assert len(detect_one(detector, image).class_names) == 5
    assert regionclip.load(run / "best.safetensors").encoder_id == detector.encoder_id


def test_losses_of_pictures_fall(recipe: Path, tmp_path: Path) -> None:
    changes = ["data.val=", "optimization.steps=12", "optimization.learning_rate=0.01"]
    changes += ["run.log_every=3", "run.checkpoint_every=12"]
    train(read_recipe(recipe, changes), tmp_path / "run")
    first, *_, last = (each for each in entries(tmp_path / "run") if "loss" in each)
    for name in (*OF_PICTURES, "classes", "objectness"):
        assert last[name] < first[name], name


def test_boxes_alone_teach_where_no_captions_are_given(recipe: Path, tmp_path: Path) -> None:
    text = recipe.read_text()
    start, end = text.index("[captions]"), text.index("[learner]")
    alone = text[:start] + text[end:]
    start, end = alone.index("[learner.captions]"), alone.index("[augmentation]")
    recipe.write_text(alone[:start] + alone[end:])
    run = tmp_path / "run"
    weights = train(read_recipe(recipe, ["data.val=", "optimization.steps=1"]), run)
    assert not OF_PICTURES & entries(run)[0].keys()
    state = load_file(weights)
    for name in ("caption_bias", "tag_bias"):
        assert torch.equal(state[name], load_file(tmp_path / "start.safetensors")[name])


@pytest.mark.usefixtures("one_thread")
def test_the_plan_is_told_and_computing_it_changes_nothing(
    recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = next((tmp_path / "data").rglob("captions.json"))
    content = json.loads(captions.read_text())
    for each in content["annotations"]:
        each["caption"] += " and so on" * 10
    captions.write_text(json.dumps(content))
    changes = ["data.val=", "optimization.steps=2"]
    with caplog.at_level(logging.INFO, "regionclip"):
        train(read_recipe(recipe, changes), tmp_path / "told")
    plan = "2 steps of 6 images with up to 16 regions each, in 1 processes"
    assert any(plan in each for each in caplog.messages)
    # two single images and two mosaics of four a step
    cut = "cut to what the text tower reads: 20 captions"
    assert caplog.messages.count(cut) == 1
    caplog.clear()
    monkeypatch.setattr(Run, "announce", lambda *_args, **_kwargs: None)
    train(read_recipe(recipe, changes), tmp_path / "untold")
    assert cut in caplog.messages
    assert losses(tmp_path / "told", "detector") == losses(tmp_path / "untold", "detector")


@pytest.mark.usefixtures("one_thread")
def test_an_interrupted_run_ends_where_an_unbroken_one_does(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StoppedError(Exception):
        pass

    def interrupt(stage: str, step: int, steps: int, loss: float) -> None:
        if step == 2:
            raise StoppedError

    monkeypatch.setattr(Run, "announce", lambda *_args, **_kwargs: None)
    own = read_recipe(recipe, ["data.val=", "optimization.steps=2", "run.checkpoint_every=1"])
    whole = load_file(train(own, tmp_path / "whole"))
    with pytest.raises(StoppedError):
        train(own, tmp_path / "broken", progress=interrupt)
    resumed = load_file(train(own, tmp_path / "broken"))
    # captions of the first step wait for the second, whoever computes it
    assert losses(tmp_path / "broken", "detector") == losses(tmp_path / "whole", "detector")
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name


@pytest.mark.parametrize("table", ["images", "mosaics"])
def test_pictures_are_shared_equally_or_refused(recipe: Path, table: str) -> None:
    whole, odd = read_recipe(recipe), read_recipe(recipe, [f"{table}.per_step=3"])
    assert isinstance(whole, DeticRecipe)
    assert isinstance(odd, DeticRecipe)
    check_parts(whole, 2)
    with pytest.raises(ValueError, match=f"{table}.per_step 3 does not divide into 2 processes"):
        check_parts(odd, 2)
    with pytest.raises(ValueError, match=f"{table}.per_step must be at least 1, got 0"):
        read_recipe(recipe, [f"{table}.per_step=0"])


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.usefixtures("one_thread")
def test_two_processes_equal_one(recipe: Path, tmp_path: Path) -> None:
    recipe.write_text(recipe.read_text().replace('"adamw"', '"sgd"'))
    one, two = tmp_path / "one", tmp_path / "two"
    changes = ("optimization.steps=2", "data.val=")
    train(read_recipe(recipe, changes), one, accelerator=make_accelerator("fp32", device="cpu"))
    words = [each for own in changes for each in ("--set", own)]
    run_together(run_command, *training(recipe, two), *words, logs=tmp_path / "logs")
    assert losses(two, "detector") == pytest.approx(losses(one, "detector"), rel=1e-4)
    assert_same_weights(one, two)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("text_weights=openai:RN50", "has its own text tower; leave out text_weights"),
        ("backbone_weights=resnet.pth", "give one of them"),
        ("model.region_blocks=2", "the detector is that of start"),
        ("data.novel_boxes=pseudo", "leave out data.novel_boxes"),
        ("captions.proposals=boxes", "of no use: the detector proposes regions itself"),
        ("learner.tag_classes=coco8", "unknown class list 'coco8'"),
    ],
)
def test_what_does_not_go_together_is_refused(
    recipe: Path, tmp_path: Path, change: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train(read_recipe(recipe, [change]), tmp_path / "run")


def test_what_lent_words_are_computed_with_has_to_be_said(recipe: Path, tmp_path: Path) -> None:
    start, lender = tmp_path / "without.pth", tmp_path / "lender.pt"
    model = tiny_detic()
    carry_classes(model, ("a", "b"), torch.randn(2, 12))
    state = {name: each for name, each in original_state(model).items() if ".clip." not in name}
    torch.save(state, start)
    torch.save(tiny_dense(replace(PLAIN, embed_dim=12)).clip.state_dict(), lender)
    changes = [f"start={start}", f"text_weights={lender}"]
    message = r"lender\.pt does not say whether its towers .*of text_weights text_activation"
    with pytest.raises(ValueError, match=message):
        train(read_recipe(recipe, changes), tmp_path / "run")
    told = read_recipe(recipe, [*changes, "text_activation=gelu"])
    assert isinstance(told, DeticRecipe)
    assert not detector_of_recipe(told).config.text.quick_gelu
    with pytest.raises(ValueError, match="is about text_weights, of which there are none"):
        read_recipe(recipe, ["text_activation=gelu"])


def test_captions_without_anything_to_learn_from_them_are_refused(recipe: Path) -> None:
    text = recipe.read_text()
    start, end = text.index("[learner.captions]"), text.index("[augmentation]")
    recipe.write_text(text[:start] + text[end:])
    with pytest.raises(ValueError, match="give all three or none"):
        read_recipe(recipe)
