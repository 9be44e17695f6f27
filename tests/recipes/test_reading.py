from dataclasses import fields, replace
from pathlib import Path

import pytest

from regionclip.methods import known_weights
from regionclip.methods.cora import VARIANTS as CORA_VARIANTS
from regionclip.methods.detic.cascade_training_config import lvis_captions, lvis_tags
from regionclip.methods.fvit.config import VARIANTS as FVIT_VARIANTS
from regionclip.methods.regionclip import VARIANTS
from regionclip.recipes import (
    IconsRecipe,
    ProposalRecipe,
    TransferRecipe,
    read_recipe,
    recipe_file,
    recipe_names,
)
from regionclip.recipes.cora import CoraRecipe, RegionPromptRecipe
from regionclip.recipes.detic import CascadeRecipe, DeticRecipe
from regionclip.recipes.fvit import FvitRecipe

OPEN_VOCABULARY = tuple(
    f"regionclip-ov-{data}-{size}" for data in ("coco", "lvis") for size in ("rn50", "rn50x4")
)


def transfer(name: str, *changes: str) -> TransferRecipe:
    recipe = read_recipe(name, changes)
    assert isinstance(recipe, TransferRecipe)
    return recipe


@pytest.mark.parametrize("name", recipe_names())
def test_each_recipe_that_ships_reads_and_says_how_it_is_run(name: str) -> None:
    assert read_recipe(name) is not None
    head = recipe_file(name).read_text().split("\n\n")[0]
    assert f"regionclip train {name}" in head or f"regionclip train recipes/{name}" in head


def test_the_recipes_that_users_look_for_ship() -> None:
    expected = {"finetune", "proposals", "diverse-weather", "icons", "regionclip-coco80"}
    assert expected | {"regionclip-lvis1203", *OPEN_VOCABULARY} <= set(recipe_names())
    assert isinstance(read_recipe("icons"), IconsRecipe)
    assert isinstance(read_recipe("proposals"), ProposalRecipe)


def test_the_published_schedules_are_followed() -> None:
    coco = transfer("regionclip-ov-coco-rn50")
    plan = coco.optimization
    assert (plan.steps, plan.milestones, plan.batch_size) == (90_000, (60_000, 80_000), 16)
    assert (plan.learning_rate, plan.weight_decay, plan.momentum) == (0.002, 1e-4, 0.9)
    assert (plan.warmup_steps, plan.warmup_factor) == (5_000, 0.001)
    assert (coco.learner.focal_gamma, coco.learner.background_weight) == (0.5, 0.2)
    assert coco.augmentation.shortest_sides == (640, 672, 704, 736, 768, 800)
    lvis = transfer("regionclip-ov-lvis-rn50x4")
    assert (lvis.optimization.steps, lvis.optimization.milestones) == (180_000, (120_000, 160_000))
    assert (lvis.learner.focal_gamma, lvis.learner.background_weight) == (None, 0.8)
    assert lvis.learner.train_masks
    assert lvis.repeat_threshold == 0.001


@pytest.mark.parametrize("name", [*OPEN_VOCABULARY, "regionclip-coco80", "regionclip-lvis1203"])
def test_published_recipes_name_weights_that_are_known_and_measure_as_released(name: str) -> None:
    recipe = transfer(name)
    assert recipe.start in known_weights()
    assert recipe.proposals in known_weights()
    assert not recipe.data.keep_empty
    released = VARIANTS["ov-lvis-rn50" if "lvis" in name else "ov-coco-rn50"]
    assert recipe.objectness_fusion == released.objectness_fusion
    assert recipe.max_detections == released.selection.max_detections
    assert recipe.min_score == released.selection.min_score


@pytest.mark.parametrize(
    ("name", "start", "epoch", "epochs", "fall"),
    [
        ("cora-region-prompt-coco-rn50", "openai:RN50", 6735, 5, 4),
        ("cora-region-prompt-coco-rn50x4", "openai:RN50x4", 6735, 5, 4),
        ("cora-region-prompt-lvis-rn50x4", "openai:RN50x4", 6260, 10, 8),
    ],
)
def test_region_prompts_follow_the_published_schedule(
    name: str, start: str, epoch: int, epochs: int, fall: int
) -> None:
    recipe = read_recipe(name)
    assert isinstance(recipe, RegionPromptRecipe)
    assert recipe.start == start
    assert recipe.start in known_weights()
    plan = recipe.optimization
    assert (plan.optimizer, plan.batch_size, plan.learning_rate) == ("adamw", 16, 1e-4)
    assert (plan.weight_decay, plan.max_gradient_norm, plan.accumulate) == (1e-4, 0.1, 1)
    assert (plan.steps, plan.milestones) == (epochs * epoch, (fall * epoch,))
    assert plan.learning_rate * plan.milestone_factor == pytest.approx(1e-5)
    assert recipe.text_length == 25


@pytest.mark.parametrize(
    ("name", "epoch", "variant"),
    [
        ("cora-ov-coco-rn50", 3367, "ov-coco-rn50"),
        ("cora-ov-coco-rn50x4", 3367, "ov-coco-rn50x4"),
        ("cora-plus-ov-coco-rn50x4", 3367, "ov-coco-rn50x4"),
        ("cora-ov-lvis-rn50x4", 3130, "ov-lvis-rn50x4"),
        ("cora-plus-ov-lvis-rn50x4", 3130, "ov-lvis-rn50x4"),
    ],
)
def test_localizers_follow_the_published_schedule(name: str, epoch: int, variant: str) -> None:
    recipe = read_recipe(name)
    assert isinstance(recipe, CoraRecipe)
    assert recipe.start in known_weights()
    assert recipe.start.endswith(CORA_VARIANTS[variant].encoder.name)
    plan, training = recipe.optimization, recipe.learner
    assert (plan.optimizer, plan.batch_size, plan.learning_rate) == ("adamw", 32, 1e-4)
    assert (plan.weight_decay, plan.max_gradient_norm, plan.ema_decay) == (1e-4, 0.1, 0.99996)
    assert (plan.steps, plan.milestones, plan.warmup_steps) == (35 * epoch, (), 0)
    assert (training.split_share, training.split_period) == (0.2, epoch)
    weights = (training.objectness_weight, training.box_weight, training.giou_weight)
    assert weights == (2.0, 5.0, 2.0)
    assert recipe.repeat_threshold == (0.001 if "lvis" in name else 0.0)
    released, model = CORA_VARIANTS[variant], recipe.model
    assert replace(model, encoder=released.encoder, base_classes=released.base_classes) == released
    assert recipe.data.novel_boxes == ("pseudo" if "plus" in name else "refused")


def test_a_localizer_of_another_shape_can_be_asked_for_and_an_encoder_cannot() -> None:
    recipe = read_recipe("cora-ov-coco-rn50", ["model.num_queries=300", "model.decoder_layers=3"])
    assert isinstance(recipe, CoraRecipe)
    assert (recipe.model.num_queries, recipe.model.decoder_layers) == (300, 3)
    with pytest.raises(ValueError, match="leave it out of the recipe"):
        CoraRecipe(
            start="openai:RN50x4",
            data=recipe.data,
            optimization=recipe.optimization,
            model=CORA_VARIANTS["ov-coco-rn50x4"],
        )


@pytest.mark.parametrize(
    "change",
    [
        "model.base_classes=coco48",
        'model.own_base_classes=["cat", "dog"]',
        'model.pseudo_classes=["cat"]',
    ],
)
def test_base_classes_are_the_datas_and_no_setting(change: str) -> None:
    with pytest.raises(ValueError, match=r"are the classes of data.train .* leave them out"):
        read_recipe("cora-ov-coco-rn50", [change])


def test_settings_can_be_changed_one_by_one() -> None:
    recipe = transfer(
        "finetune",
        "optimization.steps=7",
        "start=icons",
        "data.train=my data/train.json",
        "augmentation.shortest_sides=[300, 400]",
        "augmentation.longest_side = 500",
        "proposals=none",
    )
    assert recipe.optimization.steps == 7
    assert recipe.start == "icons"
    assert recipe.data.train == "my data/train.json"
    assert recipe.augmentation.shortest_sides == (300, 400)
    assert recipe.augmentation.longest_side == 500
    assert recipe.proposals is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("optimization.step=7",), "unknown setting 'optimization.step'"),
        (("optimization",), "'optimization' is no change of a setting; write section.key=value"),
        (("start.x=1",), "'start' is a setting, not a section"),
        (("optimization.steps=many",), "setting 'optimization.steps' must be of type int"),
        (("learner.focal_gamma=none",), "focal_gamma belongs to classification_loss"),
        (("weight_ensemble=50",), r"weight_ensemble must be in \[0, 1\], got 50"),
        (("measuring.every=0",), "every must be at least 1, got 0"),
        (("run.log_every=0",), "log_every must be at least 1, got 0"),
        (("proposal_training.optimization.steps=1",), "is missing|exclude each other"),
        (
            ("task=juggle",),
            "one of transfer, proposals, pretrain, icons, region-prompt, cora, clim, clipself, "
            "pseudo-labels, fvit, detic, detic-cascade, icons-vit, got 'juggle'",
        ),
    ],
)
def test_a_change_that_does_not_fit_is_refused(changes: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_recipe("finetune", changes)


def test_an_unknown_recipe_is_refused_with_those_that_ship() -> None:
    with pytest.raises(ValueError, match="unknown recipe 'finetun'; expected a TOML file, or one"):
        read_recipe("finetun")


def test_a_file_that_is_no_recipe_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    for text, message in (
        ("= 3", "is not a TOML recipe"),
        ("learning_speed = 3", "task must be one of"),
        ("task = 'transfer'\nlearning_speed = 3", "unknown setting 'learning_speed'"),
        ("task = 'transfer'\nstart = 'icons'", "setting 'data' is missing"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message) as caught:
            read_recipe(path)
        assert "odd.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "steps", "size", "width", "blocks"),
    [
        ("fvit-ov-coco-vitb16", 3 * 1684, 640, 512, (3, 5, 7, 11)),
        ("fvit-ov-coco-vitl14", 3 * 1684, 896, 768, (6, 10, 14, 23)),
        ("fvit-ov-lvis-vitb16", 48 * 1566, 1024, 512, (3, 5, 7, 11)),
        ("fvit-ov-lvis-vitl14", 48 * 1566, 896, 768, (6, 10, 14, 23)),
        ("fvlm-ov-coco-vitb16", 3 * 1684, 640, 1024, (3, 5, 7, 11)),
    ],
)
def test_detectors_on_frozen_clips_follow_the_published_settings(
    name: str, steps: int, size: int, width: int, blocks: tuple[int, ...]
) -> None:
    recipe = read_recipe(name)
    assert isinstance(recipe, FvitRecipe)
    assert recipe.start in known_weights()
    plan, model, training = recipe.optimization, recipe.model, recipe.learner
    assert (plan.optimizer, plan.batch_size, plan.learning_rate) == ("adamw", 64, 1e-4)
    assert (plan.weight_decay, plan.max_gradient_norm) == (0.1, 1.0)
    assert (plan.warmup_steps, plan.warmup_factor, plan.steps) == (250, 0.001, steps)
    assert (model.image_size, model.head_width, model.token_blocks) == (size, width, blocks)
    varying = recipe.augmentation
    assert (varying.shortest_sides, varying.longest_side) == ((size,), size)
    assert (varying.factors, varying.flip_share) == ((0.1, 2.0), 0.5)
    is_lvis = "lvis" in name
    assert (model.clip_scale, model.base_exponent) == (50.0 if is_lvis else 75.0, 0.1)
    assert model.novel_exponent == (0.8 if not is_lvis else 0.6 if name.endswith("vitb16") else 0.4)
    selection = model.selection
    assert (selection.min_score, selection.nms_iou, selection.max_detections) == (
        (0.0001, 0.5, 300) if is_lvis else (0.01, 0.4, 100)
    )
    assert plan.milestones == ((32 * 1566, 44 * 1566) if is_lvis else ())
    is_fvlm = name.startswith("fvlm")
    assert (model.projection, model.background) == (
        (True, "learned") if is_fvlm else (False, "text")
    )
    assert training.background_weight == (1.0 if is_fvlm else 0.9 if is_lvis else 0.6)
    assert training.train_masks == model.mask_head == model.rpn_norm == is_lvis
    assert recipe.measuring.metric == ("mask_ap_rare" if is_lvis else "ap50_novel")
    assert not recipe.data.keep_empty


def test_f_vlm_on_lvis_with_a_transformer_follows_the_published_settings() -> None:
    recipe = read_recipe("fvlm-ov-lvis-vitb16")
    assert isinstance(recipe, FvitRecipe)
    plan, model = recipe.optimization, recipe.model
    assert (plan.optimizer, plan.learning_rate, plan.weight_decay) == ("adamw", 4e-4, 0.05)
    assert (plan.steps, plan.batch_size, plan.max_gradient_norm) == (48 * 782, 128, 35.0)
    assert (model.neck, model.neck_passes, model.image_size) == ("nas-fpn", 7, 640)
    assert (model.base_exponent, model.novel_exponent, model.clip_scale) == (0.35, 0.65, 50.0)
    assert recipe.measuring.metric == "mask_ap_rare"


def test_f_vlm_on_the_large_resnet_follows_the_published_settings() -> None:
    recipe = read_recipe("fvlm-ov-lvis-rn50x64")
    assert isinstance(recipe, FvitRecipe)
    plan, model = recipe.optimization, recipe.model
    assert (plan.optimizer, plan.learning_rate) == ("sgd", 0.36)
    assert (plan.steps, plan.batch_size) == (2880, 256)
    released = FVIT_VARIANTS["fvlm-ov-lvis-rn50x64"]
    of_the_data = ("resnet", "base_classes", "class_names", "num_classes")
    for field in fields(model):
        if field.name not in of_the_data:
            assert getattr(model, field.name) == getattr(released, field.name), field.name
    assert recipe.learner.train_masks
    assert recipe.augmentation.longest_side == 1024
    assert recipe.measuring.metric == "mask_ap_rare"


def test_detics_start_on_lvis_is_its_recipe_without_captions() -> None:
    base, recipe = read_recipe("detic-ov-lvis-r50-base"), read_recipe("detic-ov-lvis-r50")
    assert isinstance(base, CascadeRecipe)
    assert isinstance(recipe, CascadeRecipe)
    assert recipe.start == "runs/detic-ov-lvis-r50-base/model.safetensors"
    assert not base.learner.reads_captions
    assert base.learner.train_masks
    assert base.optimization == recipe.optimization
    assert base.data == recipe.data


def test_detics_recipes_are_the_published_runs() -> None:
    base, recipe = read_recipe("detic-ov-coco-r50-base"), read_recipe("detic-ov-coco-r50")
    assert isinstance(base, DeticRecipe)
    assert isinstance(recipe, DeticRecipe)
    assert recipe.start == f"runs/{'detic-ov-coco-r50-base'}/model.safetensors"
    assert not base.learner.reads_captions
    for own, steps, milestones in (
        (base, 90_000, (60_000, 80_000)),
        (recipe, 45_000, (30_000, 40_000)),
    ):
        plan = own.optimization
        assert (plan.optimizer, plan.batch_size, plan.learning_rate) == ("sgd", 16, 0.02)
        assert (plan.steps, plan.milestones, plan.warmup_steps) == (steps, milestones, 1000)
        assert plan.max_gradient_norm == 35
        assert (own.augmentation.shortest_sides, own.augmentation.longest_side) == ((800,), 1333)
    captions, tags = recipe.learner.captions, recipe.learner.tags
    assert captions is not None
    assert tags is not None
    assert (captions.weight, captions.scale, captions.regions_per_picture) == (0.1, 25, 2)
    assert (captions.negative_weight, captions.queue_size, captions.num_groups) == (0.125, 256, 4)
    assert (tags.weight, tags.scale, tags.num_groups) == (pytest.approx(0.1 / 3), 25, 4)
    assert recipe.images is not None
    assert recipe.mosaics is not None
    assert (recipe.images.per_step, recipe.mosaics.per_step) == (16, 16)
    alone, mosaic = recipe.images.layout.augmentation, recipe.mosaics.layout
    assert (alone.shortest_sides, alone.longest_side) == ((400,), 667)
    assert (mosaic.sides, mosaic.cell, mosaic.pixels) == ((2, 3, 4), 400, 800)


def test_detics_recipe_on_lvis_is_the_published_run() -> None:
    recipe = read_recipe("detic-ov-lvis-r50")
    assert isinstance(recipe, CascadeRecipe)
    plan, learner = recipe.optimization, recipe.learner
    assert (plan.optimizer, plan.schedule, plan.steps) == ("adamw", "cosine", 45_000)
    # 8 GPUs with 8 images with boxes, 16 with captions and 16 mosaics each
    assert recipe.images is not None
    assert recipe.mosaics is not None
    sizes = (plan.batch_size, recipe.images.per_step, recipe.mosaics.per_step)
    assert (*sizes, plan.learning_rate) == (64, 128, 128, 0.0002)
    alone, mosaic = recipe.images.layout.augmentation, recipe.mosaics.layout
    assert (alone.shortest_sides, alone.longest_side) == ((320,), 320)
    assert (mosaic.sides, mosaic.cell, mosaic.pixels) == ((2, 3, 4), 320, 640)
    assert (learner.captions, learner.tags) == (lvis_captions(), lvis_tags())
    assert learner.match_ious == (0.6, 0.7, 0.8)
    assert learner.train_masks
    assert recipe.augmentation.longest_side == 640
