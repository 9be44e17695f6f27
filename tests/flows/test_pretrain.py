import json
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from signal import SIGKILL

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import regionclip
from regionclip.cli import main
from regionclip.methods.clim import reading as clim
from regionclip.methods.regionclip.model import RegionClip
from regionclip.methods.regionclip.reading import ReadModel, save_model
from regionclip.recipes import PretrainRecipe, read_recipe
from regionclip.train import train
from regionclip.training.engine import make_accelerator
from tests.processes import run_command, run_together, run_until_killed
from tests.runs import assert_same_weights, entries, losses, training
from tests.tiny_clim_recipes import write_tower
from tests.tiny_dense import PLAIN, tiny_dense
from tests.tiny_open_clip import write_convnext
from tests.tiny_pretrain import TOWER, write_pool, write_pretrain_recipe
from tests.tiny_recipe import TINY
from tests.tiny_transfer import write_start

VISUAL = "encoder.clip.visual."


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_pretrain_recipe(tmp_path)


@pytest.fixture
def with_teacher(recipe: Path, tmp_path: Path) -> tuple[str, ...]:
    """Changes of the recipe: another teacher, its pool, and images as they are."""
    teacher = write_start(tmp_path / "teacher.safetensors", seed=1)
    two = write_pool(tmp_path / "two.safetensors", tmp_path / "start.safetensors", teacher)
    exact = ("augmentation.shortest_sides=[96]", "augmentation.flip_share=0.0")
    return (f"teacher={teacher}", f"concepts={two}", *exact)


def propose(folder: Path, *options: str) -> str:
    """Boxes of the recipe's images, of 96 pixels as they are."""
    images, output = str(folder / "captioned" / "images"), str(folder / "stored_boxes")
    own = ["--proposals", "grid", "--max-proposals", "20", "--shortest-side", "96"]
    assert main(["propose", images, *own, *options, "--output", output]) == 0
    return f"data.proposals={output}"


def test_pretraining_leaves_a_model_that_names_anything(recipe: Path, tmp_path: Path) -> None:
    before = load_file(tmp_path / "start.safetensors")
    weights = train(read_recipe(recipe), tmp_path / "run")
    after = load_file(weights)
    moved = {name for name, own in before.items() if not torch.equal(own, after[name])}
    assert moved
    assert all(name.startswith(VISUAL) for name in moved)
    assert not [name for name in moved if name.startswith((f"{VISUAL}conv1", f"{VISUAL}layer1"))]
    logged = entries(tmp_path / "run")
    assert {"image_text", "distillation", "contrastive"} <= logged[-1].keys()
    image = next((tmp_path / "captioned" / "images").glob("*.png"))
    found = regionclip.load(weights).detect(image, ["a word that nobody trained"])
    assert isinstance(found, regionclip.Detections)


def test_what_it_will_take_is_said_before_the_first_step(
    recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="regionclip"):
        train(read_recipe(recipe), tmp_path / "run")
    messages = [each.getMessage() for each in caplog.records]
    plan = next(each for each in messages if "regions per second" in each)
    assert "6 steps of 4 images with up to 8 regions each, in 1 processes" in plan
    assert "images and up to" in plan
    assert "1 min in all" in plan
    assert "GB for the optimizer" in plan
    assert messages.index(plan) < next(
        row for row, each in enumerate(messages) if each.startswith("pretraining 1/6")
    )
    assert any("with 12 concepts" in each for each in messages)


def test_it_is_measured_on_boxes_while_it_learns(recipe: Path, tmp_path: Path) -> None:
    changes = [f"val={tmp_path / 'boxes' / 'images'}", "measuring.every=3"]
    train(read_recipe(recipe, changes), tmp_path / "run")
    measured = [each["step"] for each in entries(tmp_path / "run") if "evaluation" in each]
    assert measured == [0, 3, 6]
    assert (tmp_path / "run" / "best.safetensors").exists()


@pytest.mark.parametrize("proposals", ["grid", "random"])
def test_regions_of_no_network_leave_the_model_its_own(
    proposals: str, recipe: Path, tmp_path: Path
) -> None:
    weights = train(read_recipe(recipe, [f"proposals={proposals}"]), tmp_path / "run")
    before, after = load_file(tmp_path / "start.safetensors"), load_file(weights)
    own = [name for name in before if name.startswith("proposer.")]
    assert own
    assert all(torch.equal(before[name], after[name]) for name in own)


@pytest.mark.usefixtures("one_thread")
def test_stored_boxes_take_the_proposers_place(
    recipe: Path, tmp_path: Path, with_teacher: tuple[str, ...]
) -> None:
    def first_loss(name: str, *changes: str) -> float:
        """Of the regions alone."""
        train(read_recipe(recipe, (*with_teacher, *changes)), tmp_path / name)
        return entries(tmp_path / name)[0]["distillation"]

    stored = first_loss("stored", propose(tmp_path))
    assert stored == pytest.approx(first_loss("drawn", "proposals=grid"), rel=1e-4)
    assert stored != pytest.approx(first_loss("own"), rel=1e-4)


@pytest.mark.parametrize("regions", ["map", "crops"])
@pytest.mark.usefixtures("one_thread")
def test_a_stored_teacher_teaches_what_the_running_one_does(
    recipe: Path, tmp_path: Path, with_teacher: tuple[str, ...], regions: str
) -> None:
    options = ("--teacher", str(tmp_path / "teacher.safetensors"), "--teacher-regions", regions)
    boxes = propose(tmp_path, *options)
    runs = {"running": f"teacher_regions={regions}", "stored": "teacher=stored"}
    for name, change in runs.items():
        train(read_recipe(recipe, (*with_teacher, boxes, change)), tmp_path / name)
    running, stored = (entries(tmp_path / name) for name in runs)
    assert len(stored) == len(running) == 6
    for step, (own, expected) in enumerate(zip(stored, running, strict=True)):
        for name in ("image_text", "distillation", "contrastive"):
            # float16 has 11 bits: 5e-4 of a number, ten times that of a logit
            assert own[name] == pytest.approx(expected[name], rel=5e-3), (step, name)
    assert stored[0]["distillation"] > 0.01


def test_stored_vectors_are_mirrored_and_resized_with_their_boxes(
    recipe: Path, tmp_path: Path, with_teacher: tuple[str, ...]
) -> None:
    boxes = propose(tmp_path, "--teacher", str(tmp_path / "teacher.safetensors"))
    changes = ("augmentation.shortest_sides=[64, 80]", "augmentation.flip_share=1.0")
    weights = train(
        read_recipe(recipe, (*with_teacher, boxes, "teacher=stored", *changes)), tmp_path / "run"
    )
    assert weights.exists()
    assert all(each["distillation"] > 0 for each in entries(tmp_path / "run"))


def test_stored_vectors_of_another_encoder_are_refused(
    recipe: Path, tmp_path: Path, with_teacher: tuple[str, ...]
) -> None:
    boxes = propose(tmp_path, "--teacher", str(tmp_path / "start.safetensors"))
    message = r"has vectors of encoder \S+, and the teacher's is \S+; run 'regionclip propose"
    refused(recipe, message, *with_teacher, boxes, "teacher=stored")


def test_a_stored_teacher_needs_stored_vectors(recipe: Path, tmp_path: Path) -> None:
    boxes = propose(tmp_path)
    refused(recipe, "has boxes without a teacher's vectors; 'reg", boxes, "teacher=stored")
    file = f"data.proposals={tmp_path / 'stored_boxes' / 'images-00000.parquet'}"
    refused(recipe, "is a file of boxes without a teacher's vectors", file, "teacher=stored")
    refused(recipe, "; set data.proposals to that folder", "teacher=stored")
    crops = (boxes, "teacher=stored", "teacher_regions=crops")
    refused(recipe, r"teacher_regions \('crops'\) does not go with teacher = 'stored'", *crops)


def test_a_teacher_of_another_file_matches_regions_in_its_own_space(
    recipe: Path, tmp_path: Path
) -> None:
    teacher = write_start(tmp_path / "teacher.safetensors", seed=1)
    two = write_pool(tmp_path / "two.safetensors", tmp_path / "start.safetensors", teacher)
    changes = (f"teacher={teacher}", f"concepts={two}")
    train(read_recipe(recipe), tmp_path / "own")
    train(read_recipe(recipe, changes), tmp_path / "other")
    own, other = entries(tmp_path / "own")[0], entries(tmp_path / "other")[0]
    # it is its own teacher at first: nothing to distil
    assert own["distillation"] == pytest.approx(0, abs=1e-4)
    assert other["distillation"] > 0.01
    assert other["image_text"] == pytest.approx(own["image_text"], rel=1e-4)


def test_a_teacher_that_the_pool_was_not_made_for_is_refused(recipe: Path, tmp_path: Path) -> None:
    teacher = write_start(tmp_path / "teacher.safetensors", seed=1)
    refused(recipe, "has a teacher with encoder .*make the pool with it", f"teacher={teacher}")


@pytest.mark.usefixtures("one_thread")
def test_an_interrupted_run_ends_where_an_unbroken_one_does(recipe: Path, tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def interrupt(stage: str, step: int, steps: int, loss: float) -> None:
        if step == 5:
            raise StoppedError

    whole = load_file(train(read_recipe(recipe), tmp_path / "whole"))
    with pytest.raises(StoppedError):
        train(read_recipe(recipe), tmp_path / "broken", progress=interrupt)
    resumed = load_file(train(read_recipe(recipe), tmp_path / "broken"))
    assert losses(tmp_path / "broken", "pretraining") == losses(tmp_path / "whole", "pretraining")
    for name, own in whole.items():
        assert torch.equal(own, resumed[name]), name


def train_until_killed(recipe: Path, folder: Path) -> None:
    def kill(stage: str, step: int, steps: int, loss: float) -> None:
        if step == 3 and os.environ["RANK"] == "0":
            os.kill(os.getpid(), SIGKILL)

    accelerator = make_accelerator("fp32", device="cpu")
    train(read_recipe(recipe), folder, progress=kill, accelerator=accelerator)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_processes_equal_one_and_survive_a_kill(recipe: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    train(read_recipe(recipe), one)
    run_until_killed(train_until_killed, recipe, two, logs=tmp_path / "logs")
    assert (two / "checkpoints" / "pretraining.pt").exists()
    assert len(losses(two, "pretraining")) < len(losses(one, "pretraining"))
    run_together(run_command, *training(recipe, two), logs=tmp_path / "logs")
    assert losses(two, "pretraining") == pytest.approx(losses(one, "pretraining"), rel=1e-4)
    assert_same_weights(one, two)


def test_what_cannot_be_used_is_left_out_and_counted(
    recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = sorted((tmp_path / "captioned" / "images").glob("*.png"))
    images[0].write_bytes(images[0].read_bytes()[:60])
    Image.new("RGB", (1, 1)).save(images[1])
    path = tmp_path / "captioned" / "captions.json"
    content = json.loads(path.read_text())
    content["annotations"][2]["caption"] = "  "
    content["annotations"][3]["caption"] = "an umbrella " * 500
    path.write_text(json.dumps(content))
    with caplog.at_level(logging.INFO, logger="regionclip"):
        train(read_recipe(recipe), tmp_path / "run")
    summary = caplog.records[-1].getMessage()
    # 24 images in 6 steps: three epochs of 8 with a caption; where the unreadable one should be,
    # the next comes up, which is the tiny one, and for both the one with the long caption
    assert summary == (
        "left out: 6 tiny image, 3 unreadable image; cut to what the text tower reads: 9 captions"
    )


def test_a_resumed_run_goes_on_counting(
    recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class StoppedError(Exception):
        pass

    def interrupt(stage: str, step: int, steps: int, loss: float) -> None:
        if step == 3:
            raise StoppedError

    images = sorted((tmp_path / "captioned" / "images").glob("*.png"))
    images[0].write_bytes(images[0].read_bytes()[:60])
    path = tmp_path / "captioned" / "captions.json"
    content = json.loads(path.read_text())
    content["annotations"][3]["caption"] = "an umbrella " * 500
    path.write_text(json.dumps(content))
    changes = ('learner.losses=["image_text"]',)
    with caplog.at_level(logging.WARNING, logger="regionclip"):
        train(read_recipe(recipe, changes), tmp_path / "whole")
        with pytest.raises(StoppedError):
            train(read_recipe(recipe, changes), tmp_path / "broken", progress=interrupt)
        train(read_recipe(recipe, changes), tmp_path / "broken")
        # a run that is done tells it again
        train(read_recipe(recipe, changes), tmp_path / "broken")
    told = [
        each.getMessage()
        for each in caplog.records
        if each.msg == "%s" and "cut to" in each.getMessage()
    ]
    assert len(told) == 3
    assert told[0].startswith("left out: 3 unreadable image; cut")
    assert set(told) == {told[0]}


@pytest.mark.parametrize(
    ("write", "trained"),
    [
        (write_tower, f"{VISUAL}transformer.resblocks.0.mlp.c_fc.weight"),
        (write_convnext, "visual.trunk.stages.0.blocks.0.mlp.fc1.weight"),
    ],
)
def test_a_vit_and_a_convnext_are_pretrained_by_the_same_recipe(
    write: Callable[[Path], Path], trained: str, recipe: Path, tmp_path: Path
) -> None:
    start = write(tmp_path / "tower.safetensors")
    pool = write_pool(tmp_path / "tower_pool.safetensors", start)
    changes = [f"start={start}", f"concepts={pool}", *TOWER]
    changes += [f"val={tmp_path / 'boxes' / 'images'}", "measuring.every=4"]
    weights = train(read_recipe(recipe, changes), tmp_path / "run")
    before, after = load_file(start), load_file(weights)
    moved = {name for name, own in before.items() if not torch.equal(own, after[name])}
    assert trained in moved
    assert all("visual." in name for name in moved)
    logged = entries(tmp_path / "run")
    # it is its own teacher at first: nothing to distil
    assert logged[1]["distillation"] == pytest.approx(0, abs=1e-4)
    assert logged[-2]["distillation"] > 0
    assert "ap50" in logged[-1]["evaluation"]
    image = next((tmp_path / "captioned" / "images").glob("*.png"))
    model = regionclip.load(weights, proposals="grid")
    assert isinstance(model.detect(image, ["a word"]), regionclip.Detections)


def test_a_tower_needs_regions_from_elsewhere(recipe: Path, tmp_path: Path) -> None:
    start = write_tower(tmp_path / "tower.safetensors")
    pool = write_pool(tmp_path / "tower_pool.safetensors", start)
    message = "has no proposal network; set data.proposals to boxes"
    refused(recipe, message, f"start={start}", f"concepts={pool}")


def test_what_a_towers_file_does_not_say_has_to_be_said(recipe: Path, tmp_path: Path) -> None:
    start, says = tmp_path / "tower.pt", tmp_path / "tower.safetensors"
    torch.save(tiny_dense(PLAIN).clip.state_dict(), start)
    clim.save_model(says, clim.read_model(start, activation="quick_gelu").model)
    pool = write_pool(tmp_path / "tower_pool.safetensors", says)
    changes = [f"start={start}", f"concepts={pool}"]
    refused(recipe, r"tower\.pt does not say whether its towers", *changes)
    # with it, all is well until regions are wanted
    refused(recipe, "has no proposal network", *changes, "activation=quick_gelu")
    refused(recipe, "is no file of a CLIP with OpenAI's vision", "activation=gelu")
    refused(recipe, "is about a teacher of its own", "teacher_activation=gelu")
    # a teacher's file too: the pool is of its space, but was made with what was guessed
    taught = write_pool(tmp_path / "taught.safetensors", tmp_path / "start.safetensors", says)
    changes = [f"teacher={start}", f"concepts={taught}", "teacher_regions=crops"]
    refused(recipe, r"tower\.pt does not say whether its towers.*teacher_activation", *changes)
    refused(recipe, "has a teacher with encoder", *changes, "teacher_activation=gelu")
    changes += ["teacher_activation=quick_gelu", "optimization.steps=1"]
    assert train(read_recipe(recipe, changes), tmp_path / "taught").exists()


def refused(recipe: Path, message: str, *changes: str) -> None:
    """One sentence, before anything is written."""
    run = recipe.parent / "refused"
    with pytest.raises(ValueError, match=message):
        train(read_recipe(recipe, changes), run)
    assert not (run / "metrics.jsonl").exists()


def test_a_pool_of_another_encoder_is_refused(recipe: Path, tmp_path: Path) -> None:
    other = write_start(tmp_path / "other.safetensors", seed=1)
    pool = write_pool(tmp_path / "pool2.safetensors", other)
    refused(recipe, "has a student with encoder .*make the pool with it", f"concepts={pool}")


def test_a_source_without_captions_is_refused(recipe: Path, tmp_path: Path) -> None:
    boxes = tmp_path / "boxes" / "images" / "instances_train.json"
    refused(recipe, "has no captions", f"data.train={boxes}")


def test_a_start_without_proposals_is_refused(recipe: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "bare.safetensors"
    bare = RegionClip(replace(TINY, rpn=None))
    save_model(path, ReadModel(bare, has_text_tower=True, reports=()))
    pool = write_pool(tmp_path / "bare_pool.safetensors", path)
    refused(recipe, "has no proposal network; set proposals", f"start={path}", f"concepts={pool}")


def test_a_recipe_is_read_with_all_of_its_settings(recipe: Path) -> None:
    read = read_recipe(recipe, ['learner.losses=["distillation"]', "teacher_regions=crops"])
    assert isinstance(read, PretrainRecipe)
    assert read.learner.losses == ("distillation",)
    assert read.teacher_regions == "crops"
