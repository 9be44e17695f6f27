"""CLIM, CLIPSelf and pseudo labels from a recipe to weights that can be used."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import regionclip
from regionclip.flows.towers import frozen_clip
from regionclip.methods import known_weights
from regionclip.methods.clim import reading as clim
from regionclip.methods.clim.config import ClimConfig
from regionclip.methods.clim.model import Clim
from regionclip.methods.clipself import reading as clipself
from regionclip.methods.clipself.config import ClipSelfConfig
from regionclip.methods.clipself.model import ClipSelf
from regionclip.recipes import read_recipe, recipe_names
from regionclip.recipes.clim import ClimRecipe, ClipSelfRecipe, PseudoLabelRecipe
from regionclip.train import train
from tests.runs import entries, losses
from tests.tiny_clim_recipes import write_clim_recipes, write_tower
from tests.tiny_clip import TINY, tiny_clip
from tests.tiny_dense import PLAIN, tiny_dense
from tests.tiny_eva import TINY_EVA, tiny_eva

TASKS = ("clim", "clipself", "pseudo-labels")
BLOCKS = "encoder.clip.visual.transformer.resblocks."
SCALE = "encoder.clip.logit_scale"
LEARNED = {"clim": "contrast", "clipself": "cosine", "pseudo-labels": "classes"}
"""The loss of each."""


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_clim_recipes(tmp_path_factory.mktemp("recipes"))


@pytest.mark.parametrize("task", TASKS)
def test_a_tower_is_trained_measured_and_written(
    recipes: dict[str, Path], task: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="regionclip"):
        weights = train(read_recipe(recipes[task]), tmp_path / "run")
    before = load_file(recipes[task].with_name("start.safetensors"))
    after = load_file(weights)
    moved = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert {name for name in moved if name != SCALE}
    assert all(name.startswith(BLOCKS) for name in moved - {SCALE})
    # only captions are compared with the scale
    assert (SCALE in moved) == (task == "clim")
    logged = entries(tmp_path / "run")
    assert len(losses(tmp_path / "run", task)) == 4
    assert LEARNED[task] in logged[1]
    measured = [each for each in logged if "evaluation" in each]
    assert [each["step"] for each in measured] == [0, 2, 4]
    assert {"macc1", "macc5", "macc1_thing", "macc1_stuff"} <= measured[0]["evaluation"].keys()
    assert (tmp_path / "run" / "best.safetensors").exists()
    # what it will take is said first
    messages = [each.getMessage() for each in caplog.records]
    assert any("4 steps of" in each and "GB for the optimizer" in each for each in messages)
    assert clim.read_model(weights).model.encoder.encoder_id


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("task", ["clim", "clipself"])
def test_weights_between_start_and_end_are_kept_while_training_goes_on_without(
    recipes: dict[str, Path], task: str, tmp_path: Path
) -> None:
    steps = ["optimization.steps=2", "measuring.every=1"]
    start = load_file(recipes[task].with_name("start.safetensors"))
    plain = load_file(train(read_recipe(recipes[task], steps), tmp_path / "plain"))
    share = [*steps, "weight_ensemble=0.7"]
    mixed = load_file(train(read_recipe(recipes[task], share), tmp_path / "mixed"))
    for name, tensor in start.items():
        torch.testing.assert_close(mixed[name], torch.lerp(tensor, plain[name], 0.7), msg=name)
    # it was measured, mixed, after the first step, and the second one is that of a run without
    assert losses(tmp_path / "plain", task) == losses(tmp_path / "mixed", task)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("task", ["clim", "clipself"])
def test_an_interrupted_run_ends_where_an_unbroken_one_does(
    recipes: dict[str, Path], task: str, tmp_path: Path
) -> None:
    class StoppedError(Exception):
        pass

    def interrupt(stage: str, step: int, steps: int, loss: float) -> None:
        if step == 3:
            raise StoppedError

    recipe = read_recipe(recipes[task], ["weight_ensemble=0.5", "measuring.every=4"])
    whole = load_file(train(recipe, tmp_path / "whole"))
    with pytest.raises(StoppedError):
        train(recipe, tmp_path / "broken", progress=interrupt)
    resumed = load_file(train(recipe, tmp_path / "broken"))
    assert losses(tmp_path / "broken", task) == losses(tmp_path / "whole", task)
    for name, own in whole.items():
        assert torch.equal(own, resumed[name]), name


def test_regions_may_be_boxes_and_the_teacher_another_tower(
    recipes: dict[str, Path], tmp_path: Path
) -> None:
    text = recipes["clipself"].read_text()
    boxes = recipes["pseudo-labels"].with_name("icons") / "instances.json"
    images = boxes.with_name("images")
    own = tmp_path / "boxes.toml"
    given = text.replace("[grid]\nmax_split = 3\n", "[boxes]\n")
    given = given.replace(f'train = "{images}"', f'train = "{boxes}"\nimage_root = "{images}"')
    own.write_text(given)
    teacher = write_tower(tmp_path / "teacher.safetensors", seed=1)
    changes = ["optimization.steps=1", "measuring.every=1"]
    train(read_recipe(own, changes), tmp_path / "alone")
    train(read_recipe(own, [*changes, f"teacher={teacher}"]), tmp_path / "taught")
    assert losses(tmp_path / "alone", "clipself") != losses(tmp_path / "taught", "clipself")


@pytest.mark.parametrize("task", ["clim", "clipself"])
def test_eva_towers_are_trained_and_measured_too(
    recipes: dict[str, Path], task: str, tmp_path: Path
) -> None:
    start, own = tmp_path / "eva.safetensors", ClipSelf(ClipSelfConfig(encoder=TINY_EVA))
    own.encoder.load_state_dict(tiny_eva().state_dict())
    clipself.save_model(start, own)
    changes = [f"start={start}", "optimization.steps=1", "learner.unlocked_groups=3"]
    weights = train(read_recipe(recipes[task], changes), tmp_path / "run")
    before, after = tiny_eva(), clipself.read_model(weights).model.encoder
    moved = {
        name
        for name, own in before.clip.state_dict().items()
        if not torch.equal(own, after.clip.state_dict()[name])
    }
    last = "visual.blocks.2.attn."
    assert f"{last}v_proj.weight" in moved
    assert all(name.startswith("visual.blocks.") or name == "logit_scale" for name in moved)
    # maps alone do not read what the last block asks with
    assert (f"{last}q_proj.weight" in moved) == (task == "clim")
    assert isinstance(regionclip.load(weights), regionclip.Detector)
    measured = [each for each in entries(tmp_path / "run") if "evaluation" in each]
    assert [each["step"] for each in measured] == [0, 1]
    assert {"macc1", "macc5", "macc1_thing", "macc1_stuff"} <= measured[0]["evaluation"].keys()


def write_resnet(path: Path) -> Path:
    """A dense CLIP with a ResNet, whose boxes are pooled with attention."""
    config = ClimConfig(vit=None, resnet=TINY, pooling="attention", templates="photo")
    model = Clim(replace(config, longest_side=64))
    model.encoder.load_state_dict(tiny_clip().state_dict())
    clim.save_model(path, model)
    return path


def test_a_resnet_learns_layer4_and_what_asks_its_pool(
    recipes: dict[str, Path], tmp_path: Path
) -> None:
    start = write_resnet(tmp_path / "resnet.safetensors")
    changes = [f"start={start}", "augmentation.side=64", "optimization.steps=1"]
    weights = train(read_recipe(recipes["clim"], changes), tmp_path / "run")
    before, after = load_file(start), load_file(weights)
    moved = {name for name, own in before.items() if not torch.equal(own, after[name])}
    visual = "encoder.clip.visual."
    assert {f"{visual}layer4.0.conv2.weight", f"{visual}attnpool.q_proj.weight", SCALE} <= moved
    learned = (f"{visual}layer4.", f"{visual}attnpool.", SCALE)
    assert all(name.startswith(learned) for name in moved)
    assert not any(".bn" in name or ".v_proj." in name or ".c_proj." in name for name in moved)
    own = clim.read_model(weights).model.config
    assert (own.pooling, own.resnet) == ("attention", TINY)
    measured = [each for each in entries(tmp_path / "run") if "evaluation" in each]
    assert [each["step"] for each in measured] == [0, 1]
    assert "macc1" in measured[0]["evaluation"]


def test_what_does_not_go_together_is_refused(recipes: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(ValueError, match="no whole number of mosaic sets of 5"):
        train(read_recipe(recipes["clim"], ["optimization.batch_size=12"]), run)
    with pytest.raises(ValueError, match=r"data\.proposals .* is about boxes"):
        read_recipe(recipes["clim"], ["data.proposals=boxes"])
    with pytest.raises(ValueError, match=r"give one of the tables \[grid\] and \[boxes\]"):
        read_recipe(recipes["clipself"], ["boxes.max_regions=3"])
    with pytest.raises(ValueError, match=r"data\.proposals .* regions are cells of grids"):
        read_recipe(recipes["clipself"], ["data.proposals=boxes"])
    boxes = ["grid=none", "boxes.max_regions=3"]
    missing = [*boxes, "data.proposals=nowhere"]
    with pytest.raises(
        ValueError, match=r"data\.proposals nowhere does not exist; 'regionclip pro"
    ):
        train(read_recipe(recipes["clipself"], missing), run)
    (tmp_path / "others.csv").write_text("image,x0,y0,x1,y1\nother.jpg,0,0,9,9\n")
    others = [*boxes, f"data.proposals={tmp_path / 'others.csv'}"]
    with pytest.raises(ValueError, match=r"others\.csv lists none of the 12 images of .*images"):
        train(read_recipe(recipes["clipself"], others), run)
    for task in TASKS:
        with pytest.raises(ValueError, match=r"weight_ensemble must be in \[0, 1\], got 1.5"):
            read_recipe(recipes[task], ["weight_ensemble=1.5"])
        with pytest.raises(ValueError, match="gives no figure 'ap50'"):
            train(read_recipe(recipes[task], ["measuring.metric=ap50"]), run)
    for task in ("clipself", "pseudo-labels"):
        with pytest.raises(ValueError, match=r"set data\.train, or give --data"):
            train(read_recipe(recipes[task], ["data.train="]), run)
    for task, setting, message in (
        ("clim", "augmentation.side=40", r"whole images in squares of 32 .* augmentation\.side=32"),
        ("clim", "learner.mosaic_pixels=60", r"mosaic_pixels must be a multiple of 8.*, got 60"),
        ("clipself", "image_side=60", r"image_side must be a multiple of 8, the pixels of a cell"),
        ("clipself", "learner.image_sides=[64, 60]", r"image_sides must be a multiple of 8"),
        ("pseudo-labels", "augmentation.side=60", r"augmentation\.side must be a multiple of 8"),
    ):
        with pytest.raises(ValueError, match=message):
            train(read_recipe(recipes[task], [setting]), run)
    resnet = write_resnet(tmp_path / "resnet.safetensors")
    for task in ("clipself", "pseudo-labels"):
        with pytest.raises(ValueError, match="of such towers there is only CLIM's training"):
            train(read_recipe(recipes[task], [f"start={resnet}"]), run)
    assert not (run / "checkpoints").exists()


@pytest.mark.parametrize(
    ("name", "plan", "betas"),
    [
        ("clim-coco-vitb16", (92_400, 128), (0.9, 0.98, 1e-6)),
        ("clim-cc3m-vitb16", (70_311, 128), (0.9, 0.98, 1e-6)),
        ("clim-cc3m-rn50x64", (70_311, 128), (0.9, 0.999, 1e-8)),
        ("clipself-coco-vitb16", (6 * 7392, 16), (0.9, 0.999, 1e-8)),
        ("clipself-coco-vitl14", (6 * 7392, 16), (0.9, 0.999, 1e-8)),
        ("clipself-proposals-coco-vitb16", (6 * 7392, 16), (0.9, 0.999, 1e-8)),
        ("clipself-lvis-vitb16", (6 * 6260, 16), (0.9, 0.999, 1e-8)),
        ("clipself-proposals-coco-vitl14", (6 * 7392, 16), (0.9, 0.999, 1e-8)),
        ("clipself-lvis-vitl14", (6 * 6260, 16), (0.9, 0.999, 1e-8)),
        ("pseudo-labels-coco-vitb16", (6 * 7392, 16), (0.9, 0.999, 1e-8)),
        ("pseudo-labels-coco-vitl14", (6 * 7392, 16), (0.9, 0.999, 1e-8)),
    ],
)
def test_the_published_schedules_are_followed(
    name: str, plan: tuple[int, int], betas: tuple[float, float, float]
) -> None:
    recipe = read_recipe(name)
    assert recipe.start in known_weights()  # type: ignore[union-attr]
    own = recipe.optimization  # type: ignore[union-attr]
    assert (own.steps, own.batch_size) == plan
    assert (own.momentum, own.second_beta, own.epsilon) == betas
    assert (own.learning_rate, own.weight_decay, own.vector_weight_decay) == (1e-5, 0.1, 0.0)
    assert (own.schedule, own.warmup_steps) == ("cosine_after_warmup", 1000)
    is_large = name.endswith("vitl14")
    assert recipe.weight_ensemble == (0.95 if is_large else 0.7)  # type: ignore[union-attr]
    if isinstance(recipe, ClimRecipe):
        assert recipe.learner.mosaic_sides == (2, 3, 4)
        is_resnet = recipe.start == "openai:RN50x64"
        assert recipe.learner.unlocked_groups == (2 if is_resnet else 6)
        assert recipe.augmentation.side == (448 if is_resnet else 224)
    if isinstance(recipe, PseudoLabelRecipe):
        assert recipe.augmentation.side == (896 if is_large else 1024)
        assert recipe.learner.unlocked_groups == (24 if is_large else 12)
    if isinstance(recipe, ClipSelfRecipe):
        assert recipe.image_side == (896 if is_large else 1024)
        assert recipe.learner.unlocked_groups == (24 if is_large else 12)
        assert recipe.regions.crop_scale == (1.5 if "proposals" in name else 1.0)
        assert recipe.regions.max_regions == 20


def test_what_the_starts_towers_compute_with_can_be_said(
    recipes: dict[str, Path], tmp_path: Path
) -> None:
    changes = ["optimization.steps=0", "data.val=", "activation=gelu"]
    weights = train(read_recipe(recipes["clipself"], changes), tmp_path / "run")
    spec = clim.read_model(weights).model.config.vit
    assert spec is not None
    assert not spec.quick_gelu
    with pytest.raises(
        ValueError, match="is about a teacher of its own; the start's is activation"
    ):
        read_recipe(recipes["clipself"], ["teacher_activation=gelu"])
    eva = tmp_path / "eva.safetensors"
    clipself.save_model(eva, ClipSelf(ClipSelfConfig(encoder=TINY_EVA)))
    with pytest.raises(ValueError, match="no file of a CLIP with OpenAI's vision transformer"):
        train(read_recipe(recipes["clipself"], [*changes, f"start={eva}"]), tmp_path / "other")


def test_small_recipes_ship_for_own_images() -> None:
    small = {"clim-small", "clipself-small", "clipself-proposals-small", "pseudo-labels-small"}
    assert small <= set(recipe_names())


def test_a_start_whose_activation_nothing_tells_is_refused_until_it_is_said(
    recipes: dict[str, Path], tmp_path: Path
) -> None:
    start = tmp_path / "weights.pt"
    torch.save(tiny_dense(PLAIN).clip.state_dict(), start)
    changes = ["optimization.steps=0", "data.val="]
    untold = [*changes, f"start={start}"]
    message = r"weights\.pt does not say whether its towers .* set activation to"
    with pytest.raises(ValueError, match=message):
        train(read_recipe(recipes["clipself"], untold), tmp_path / "run")
    with pytest.raises(ValueError, match=message):
        train(read_recipe(recipes["clipself"], [*changes, f"teacher={start}"]), tmp_path / "run")
    with pytest.raises(ValueError, match=message):
        frozen_clip(str(start))
    told = [*untold, "activation=gelu", f"teacher={start}", "teacher_activation=quick_gelu"]
    spec = clim.read_model(train(read_recipe(recipes["clipself"], told), tmp_path / "run"))
    assert spec.model.config.vit is not None
    assert not spec.model.config.vit.quick_gelu
