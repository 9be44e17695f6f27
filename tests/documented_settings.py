"""Settings under which a recipe of any task takes a step or two on a made data set."""

from regionclip.recipes import recipe_task
from tests.documented import MODEL, RPN, TOWER

STEP = (
    "optimization.steps=1",
    "optimization.batch_size=2",
    "optimization.milestones=[]",
    "optimization.warmup_steps=0",
    "run.precision=fp32",
    "run.num_workers=0",
)
SMALL_IMAGES = ("augmentation.shortest_sides=[64]", "augmentation.longest_side=64")
ICONS_STEP = ("steps=1", "batch_size=2", "warmup_steps=0")
OWN: dict[str, tuple[str, ...]] = {
    "transfer": (
        *STEP,
        *SMALL_IMAGES,
        "templates=photo",
        "shortest_side=64",
        "longest_side=64",
        "learner.regions_per_image=8",
    ),
    "proposals": (
        *STEP,
        *SMALL_IMAGES,
        "rpn.layers=[1,1]",
        "rpn.width=8",
        "rpn.pyramid_channels=8",
        "rpn.anchor_sizes=[[24.0],[48.0],[80.0]]",
        "shortest_side=64",
        "longest_side=64",
    ),
    "pretrain": (
        *STEP,
        *SMALL_IMAGES,
        "learner.regions_per_image=8",
        "learner.min_concept_score=0.0",
    ),
    "clim": (
        *STEP,
        "optimization.batch_size=5",
        "learner.mosaic_sides=[2]",
        "learner.images_per_set=5",
        "learner.mosaic_pixels=64",
        "learner.unlocked_groups=2",
        "augmentation.side=32",
    ),
    "clipself": (*STEP, "image_side=64", "learner.unlocked_groups=2"),
    "pseudo-labels": (
        *STEP,
        "templates=photo",
        "learner.unlocked_groups=2",
        "learner.classes_per_step=4",
        "augmentation.side=64",
    ),
    "region-prompt": (
        *STEP,
        *SMALL_IMAGES,
        "augmentation.crop_from_sides=[64]",
        "augmentation.crop_sides=[32, 48]",
        "templates=photo",
        "text_length=20",
        "shortest_side=64",
        "longest_side=64",
    ),
    "cora": (
        *STEP,
        *SMALL_IMAGES,
        "augmentation.crop_from_sides=[64]",
        "augmentation.crop_sides=[32, 48]",
        "model.num_queries=20",
        "model.width=16",
        "model.heads=2",
        "model.feedforward=24",
        "model.encoder_layers=1",
        "model.decoder_layers=2",
        "model.text_bottleneck=8",
        "model.text_length=20",
        "model.templates=photo",
        "model.shortest_side=64",
        "model.longest_side=64",
    ),
    "fvit": (
        *STEP,
        *SMALL_IMAGES,
        "model.channels=8",
        "model.head_width=12",
        "model.image_size=64",
        "model.templates=photo",
        "learner.regions_per_image=8",
    ),
    "icons": (
        "model.encoder.layers=[1,1,1,1]",
        *(f"{stage}.{each}" for stage in ("captions", "proposals") for each in ICONS_STEP),
        "caption_image_sizes=[64]",
        "run.num_workers=0",
    ),
    "icons-vit": (
        *(f"captions.{each}" for each in ICONS_STEP),
        "caption_images=4",
        "run.num_workers=0",
    ),
}
"""By task."""
TOWERS = ("clim", "clipself", "pseudo-labels")
FROM_NOTHING = ("proposals", "icons", "icons-vit")
PUBLISHED = {
    "clim-coco-vitb16": (
        "data.train=my_captions",
        "data.image_root=none",
        "val=panoptic_val2017.json",
        "val_image_root=val2017",
    ),
    "clipself-coco-vitb16": (
        "data.train=val.json",
        "data.image_root=val",
        "data.val=panoptic_val2017.json",
        "data.val_image_root=val2017",
    ),
    "cora-plus-ov-coco-rn50x4": (
        "region_prompt=runs/cora-region-prompt-coco-rn50/region_prompt.pth",
    ),
    "regionclip-pretrain-cc3m-rn50": ("data.train=my_captions", f"proposals={RPN}"),
    "icons": tuple(f"regions.{each}" for each in ICONS_STEP),
    "icons-pretrained": tuple(f"pretraining.optimization.{each}" for each in ICONS_STEP),
}
"""What recipes need besides, where data are named in them, by name."""
OWN_PROPOSALS = (
    "proposal_training.optimization.steps=1",
    "proposal_training.optimization.batch_size=2",
    "proposal_training.optimization.warmup_steps=0",
)


def small_settings(recipe: str, given: tuple[str, ...]) -> list[str]:
    """``--set`` options for a recipe, beside those that the command has."""
    task = recipe_task(recipe)
    name = recipe.removeprefix("recipes/").removesuffix(".toml")
    settings = [*OWN[task], *PUBLISHED.get(name, ())]
    keys = {each.split("=")[0] for each in given}
    if task not in FROM_NOTHING and "start" not in keys:
        start = "twelve_blocks.safetensors" if task == "fvit" else MODEL
        settings.append(f"start={TOWER if task in TOWERS else start}")
    if task == "transfer":
        settings += OWN_PROPOSALS if name == "finetune-small" else [f"proposals={RPN}"]
    absent = tuple(f"{each.removesuffix('=none')}." for each in given if each.endswith("=none"))
    settings = [each for each in settings if not each.startswith(absent)]
    return [f"--set={each}" for each in settings if each.split("=")[0] not in keys]
