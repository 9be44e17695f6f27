import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL

import pyarrow
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import load_file, save_file

import regionclip
from regionclip.methods.regionclip.model import RegionClip
from regionclip.methods.regionclip.reading import ReadModel, save_model
from regionclip.proposals.rpn import RegionProposalNetwork
from regionclip.proposals.rpn_files import save_rpn
from regionclip.recipes import read_recipe
from regionclip.train import train
from regionclip.training.engine import make_accelerator
from tests.processes import run_until_killed
from tests.runs import assert_same_weights, command, entries, losses
from tests.tiny_recipe import TINY
from tests.tiny_transfer import write_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path)


def test_fine_tuning_leaves_a_detector_of_its_classes_and_of_any_other(
    recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    weights = train(read_recipe(recipe, ["weight_ensemble=0.5"]), run)
    measured = [each for each in entries(run) if "evaluation" in each]
    assert [(each["stage"], each["step"]) for each in measured] == [
        ("transfer", 0),
        ("transfer", 3),
        ("transfer", 6),
        ("ensemble", 6),
    ]
    assert {"ap", "ap50", "ap50_novel", "ap50_base", "ap50_all"} <= measured[0]["evaluation"].keys()
    for name in ("model", "best", "ensemble"):
        assert (run / f"{name}.safetensors").exists()
    detector = regionclip.load(weights)
    classes = detector.vocabulary()
    assert len(classes) == 5
    image = next((tmp_path / "data" / "images").glob("*.png"))
    found = detector.detect(image)
    assert isinstance(found, regionclip.Detections)
    assert found.class_names == classes.names
    other = detector.detect(image, ["a word that nobody trained"])
    assert isinstance(other, regionclip.Detections)


def test_what_is_frozen_stays_and_what_is_trained_moves(recipe: Path, tmp_path: Path) -> None:
    before = load_file(tmp_path / "start.safetensors")
    after = load_file(train(read_recipe(recipe), tmp_path / "run"))
    moved = {name for name, own in before.items() if not torch.equal(own, after[name])}
    visual = "encoder.clip.visual."
    assert f"{visual}layer2.0.conv1.weight" in moved
    assert f"{visual}attnpool.c_proj.weight" in moved
    assert any(name.startswith("proposer.head.") for name in moved)
    still = (f"{visual}conv1", f"{visual}layer1", f"{visual}bn", "encoder.clip.transformer")
    assert not [name for name in moved if name.startswith(still)]
    assert not [name for name in moved if name.startswith(visual) and ".bn" in name]


@pytest.mark.usefixtures("one_thread")
def test_an_interrupted_run_ends_where_an_unbroken_one_does(recipe: Path, tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def interrupt(stage: str, step: int, steps: int, loss: float) -> None:
        if (stage, step) == ("transfer", 5):
            raise StoppedError

    whole = load_file(train(read_recipe(recipe), tmp_path / "whole"))
    with pytest.raises(StoppedError):
        train(read_recipe(recipe), tmp_path / "broken", progress=interrupt)
    resumed = load_file(train(read_recipe(recipe), tmp_path / "broken"))
    assert losses(tmp_path / "broken", "transfer") == losses(tmp_path / "whole", "transfer")
    for name, own in whole.items():
        assert torch.equal(own, resumed[name]), name


ACCELERATE = (
    *("accelerate.commands.launch", "--num_processes=2", "--num_machines=1", "--multi_gpu"),
    # what it would ask for, and any port that is free
    *("--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0", "--tee=3"),
)
"""``--multi_gpu`` starts several processes on CPUs too, where one is started without it."""


def train_until_killed(recipe: Path, folder: Path) -> None:
    def kill(stage: str, step: int, steps: int, loss: float) -> None:
        if (stage, step) == ("transfer", 5) and os.environ["RANK"] == "0":
            os.kill(os.getpid(), SIGKILL)

    accelerator = make_accelerator("fp32", device="cpu")
    train(read_recipe(recipe), folder, progress=kill, accelerator=accelerator)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.usefixtures("one_thread")
def test_two_processes_equal_one_and_survive_a_kill(recipe: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    train(read_recipe(recipe), one, accelerator=make_accelerator("fp32", device="cpu"))
    logs = tmp_path / "logs"
    run_until_killed(train_until_killed, recipe, two, logs=tmp_path / "killed")
    assert (two / "checkpoints" / "transfer.pt").exists()
    assert 0 < len(losses(two, "transfer")) < len(losses(one, "transfer"))
    # a launcher goes on
    again = command((*ACCELERATE, f"--log_dir={logs}"), recipe, two)
    subprocess.run(again, check=True, capture_output=True)
    assert sorted(path.parent.name for path in logs.rglob("stderr.log")) == ["0", "1"]
    assert losses(two, "transfer") == pytest.approx(losses(one, "transfer"), rel=1e-4)
    assert losses(two, "proposals") == pytest.approx(losses(one, "proposals"), rel=1e-4)
    assert_same_weights(one, two)


def refused(recipe: Path, message: str, *changes: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(read_recipe(recipe, changes), recipe.parent / "run")
    assert not (recipe.parent / "run" / "checkpoints").exists()


def test_a_recipe_with_wrong_paths_is_refused_before_training(recipe: Path) -> None:
    refused(recipe, "nowhere", "data.train=nowhere")
    refused(recipe, "names no data to train on; set data.train", 'data.train=""')
    refused(recipe, "unknown model 'nothing'|nothing", "start=nothing")
    refused(recipe, "exclude each other", "proposals=boxes.pth")
    own = ["proposal_training=none", "proposals=boxes.pth"]
    refused(recipe, "unknown proposals 'boxes.pth'", *own)
    folder = recipe.parent / "boxes"
    folder.mkdir()
    boxes = {"image": ["a.jpg"], "x0": [0.0], "y0": [0.0], "x1": [8.0], "y1": [8.0]}
    parquet.write_table(pyarrow.table(boxes), folder / "images-00000.parquet")
    own = ["proposal_training=none", f"proposals={folder}"]
    refused(recipe, "holds boxes of images as they are, and training resizes", *own)


def test_a_metric_that_is_not_measured_is_refused_before_training(
    recipe: Path, tmp_path: Path
) -> None:
    expected = "gives no figure 'ap50_nvl'; expected one of ap, ap50, .*, ap50_novel, ap50_base"
    refused(recipe, f"measuring.metric: .*{expected}", "measuring.metric=ap50_nvl")
    path = tmp_path / "proposals.toml"
    path.write_text(PROPOSALS.format(data=json.dumps(str(tmp_path / "data" / "images"))))
    refused(path, "gives no figure 'ap'; expected one of ar_100, ", "measuring.metric=ap")
    # nothing is measured, and nothing chosen
    unmeasured = ['data.val=""', "measuring.metric=ap", "optimization.steps=0"]
    assert train(read_recipe(path, unmeasured), tmp_path / "unmeasured").exists()


def test_images_that_are_not_there_are_counted(recipe: Path) -> None:
    image = next((recipe.parent / "data" / "images").glob("*.png"))
    image.unlink()
    refused(recipe, f"1 of 6 image files are not there .*{image.name}.*data.image_root")


def test_a_class_without_boxes_is_not_trained(recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "data" / "images" / "instances_train.json"
    content = json.loads(path.read_text())
    named = content["categories"][0]
    rows = [each for each in content["annotations"] if each["category_id"] != named["id"]]
    path.write_text(json.dumps(content | {"annotations": rows}))
    weights = train(read_recipe(recipe, ["optimization.steps=1"]), tmp_path / "run")
    state = load_file(weights)
    assert len(state["train_embeddings"]) == 3
    # it is measured, as a novel one
    assert named["name"] in regionclip.load(weights).vocabulary().names


def test_the_proposal_network_that_was_given_is_kept_in_the_file(
    recipe: Path, tmp_path: Path
) -> None:
    network = RegionProposalNetwork(replace(TINY.rpn, head_convs=2))  # type: ignore[type-var]
    save_rpn(tmp_path / "rpn.safetensors", network)
    changes = [
        "proposal_training=none",
        f"proposals={tmp_path / 'rpn.safetensors'}",
        "optimization.steps=1",
    ]
    state = load_file(train(read_recipe(recipe, changes), tmp_path / "run"))
    for name, tensor in network.state_dict().items():
        assert torch.equal(state[f"proposer.{name}"], tensor), name
    with_grid = ["proposal_training=none", "proposals=grid", "optimization.steps=1"]
    weights = train(read_recipe(recipe, with_grid), tmp_path / "grid")
    assert not [name for name in load_file(weights) if name.startswith("proposer.")]


def changed(recipe: Path, split: str, change: dict) -> None:
    path = recipe.parent / "data" / "images" / f"instances_{split}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def test_an_empty_split_is_refused(recipe: Path) -> None:
    changed(recipe, "train", {"annotations": []})
    refused(recipe, "has no box to train on")


def test_a_class_name_that_occurs_twice_is_refused(recipe: Path) -> None:
    path = recipe.parent / "data" / "images" / "instances_train.json"
    categories = json.loads(path.read_text())["categories"]
    categories[1]["name"] = categories[0]["name"]
    changed(recipe, "train", {"categories": categories})
    refused(recipe, "category name .* occurs twice")


def test_boxes_of_a_novel_class_are_refused(recipe: Path) -> None:
    path = recipe.parent / "data" / "images" / "instances_train.json"
    categories = json.loads(path.read_text())["categories"]
    categories[0]["split"] = "novel"
    changed(recipe, "train", {"categories": categories})
    refused(recipe, "is marked novel and has .* boxes from people .*, which training must not see")


def test_class_vectors_of_the_wrong_width_or_number_are_refused(recipe: Path) -> None:
    path = recipe.parent / "wide.pth"
    torch.save(torch.randn(4, 33), path)
    refused(recipe, "rows of 33 numbers, and regions of .* have 16", f"class_embeddings={path}")
    torch.save(torch.randn(3, 16), path)
    refused(recipe, "3 rows, and 4 names are given", f"class_embeddings={path}")


def test_a_start_model_without_proposals_says_what_to_do(recipe: Path, tmp_path: Path) -> None:
    start = tmp_path / "bare.safetensors"
    save_model(start, ReadModel(RegionClip(replace(TINY, rpn=None)), True, ()))
    refused(recipe, "has no proposal network; set proposals to", f"start={start}")


PROPOSALS = """
task = "proposals"
shortest_side = 96
longest_side = 128

[data]
train = {data}
val = {data}

[rpn]
layers = [1, 1]
width = 8
strided_conv = "conv2"
pyramid_channels = 8
anchor_sizes = [[24.0], [48.0], [80.0]]

[learner]
freeze_at = 0
norms = "trained"

[augmentation]
shortest_sides = [96]
longest_side = 128

[optimization]
steps = 4
batch_size = 2
learning_rate = 0.01

[measuring]
every = 2
metric = "ar_100"

[run]
precision = "fp32"
num_workers = 0
log_every = 1
"""


def test_a_proposal_network_is_trained_measured_and_used(recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "proposals.toml"
    path.write_text(PROPOSALS.format(data=json.dumps(str(tmp_path / "data" / "images"))))
    weights = train(read_recipe(path), tmp_path / "run")
    assert len(losses(tmp_path / "run", "proposals")) == 4
    detector = regionclip.load(tmp_path / "start.safetensors", proposals=weights)
    image = next((tmp_path / "data" / "images").glob("*.png"))
    assert isinstance(detector.detect(image, ["anchor"]), regionclip.Detections)
    with pytest.raises(ValueError, match="holds a proposal network only"):
        regionclip.load(weights)


def test_a_backbone_is_begun_from_a_resnets_weights(recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "proposals.toml"
    path.write_text(PROPOSALS.format(data=json.dumps(str(tmp_path / "data" / "images"))))
    network = load_file(train(read_recipe(path, ["optimization.steps=0"]), tmp_path / "a"))
    trunk = {
        name.removeprefix("backbone."): torch.full_like(tensor, 0.5)
        for name, tensor in network.items()
        if name.startswith("backbone.")
    }
    save_file({**trunk, "fc.weight": torch.zeros(2, 2)}, tmp_path / "resnet.safetensors")
    changes = ["optimization.steps=0", f"backbone_weights={tmp_path / 'resnet.safetensors'}"]
    begun = load_file(train(read_recipe(path, changes), tmp_path / "b"))
    assert all(torch.equal(begun[f"backbone.{name}"], each) for name, each in trunk.items())
