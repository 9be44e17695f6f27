"""F-ViT's run: boxes of base classes -> a detector on a frozen CLIP, of any class it can name."""

import logging
from dataclasses import replace
from functools import partial

import torch

from regionclip.encoders.class_token_maps import PatchTowers
from regionclip.encoders.clip_towers import OPENAI_MEAN, OPENAI_STD
from regionclip.encoders.text import TextEncoder, UnitPrompts
from regionclip.evaluation.watching import (
    Watch,
    has_masks,
    judge_objects,
    judge_objects_and_masks,
)
from regionclip.flows.data import encoded_classes, open_training_data, test_vocabulary
from regionclip.flows.run import Run
from regionclip.flows.towers import frozen_clip
from regionclip.loading.fvit import fvit_detector_of
from regionclip.methods.fvit.config import IMAGENET_MEAN, IMAGENET_STD, TOWERS, FvitConfig
from regionclip.methods.fvit.learner import FvitLearner
from regionclip.methods.fvit.model import Fvit, build, carry_classes
from regionclip.methods.fvit.reading import save_model
from regionclip.methods.fvit.towers import FrozenClip, tower_settings
from regionclip.recipes.fvit import FvitRecipe
from regionclip.training import Stage
from regionclip.training.checkpoints import BEST, MODEL

LOGGER = logging.getLogger(__name__)
BACKGROUND = "background"
"""The word whose vector stands for no class, where that is not learned."""


def train_fvit(recipe: FvitRecipe, run: Run) -> None:
    """Boxes of base classes -> a detector of any class that the CLIP can name."""
    data = open_training_data(recipe.data, max_val_images=recipe.measuring.max_images)
    draws = recipe.model.mask_head
    run.check_metric(
        data.val, recipe.measuring, judge_objects_and_masks if draws else judge_objects
    )
    if draws and data.val is not None and not has_masks(data.val):
        LOGGER.info(
            "masks are trained, and boxes alone are measured: %s has no masks by LVIS's rules",
            data.val.source,
        )
    model = detector_on(recipe, data.train.class_names).to(run.device)
    text, templates = UnitPrompts(model.encoder), model.config.templates
    classes = encoded_classes(data.train.class_names, text, templates=templates)
    named = test_vocabulary(classes, data.val, text, templates=templates)
    carry_classes(model, named.names, named.embeddings)
    if model.config.background == "text":
        set_background(model, text)
    learner = FvitLearner(model, classes.embeddings, recipe.learner)

    def figures(watch: Watch) -> dict[str, float]:
        detector = fvit_detector_of(model, model.encoder)
        return watch.mask_figures(detector) if draws else watch.detection_figures(detector)

    keep_best = partial(save_model, run.folder / BEST, model)
    batches = run.detection_batches(
        data.train,
        recipe.optimization,
        recipe.augmentation,
        repeat_threshold=recipe.repeat_threshold,
        with_polygons=recipe.learner.train_masks,
    )
    stage = Stage(
        name="detector",
        learner=learner,
        batches=batches,
        optimization=recipe.optimization,
        evaluation=run.evaluation(data.val, recipe.measuring, figures, keep_best),
    )
    run.announce(stage, num_regions=recipe.learner.regions_per_image)
    run.trainer.run(stage)
    run.on_main(lambda: save_model(run.folder / MODEL, model))


def detector_on(recipe: FvitRecipe, class_names: tuple[str, ...]) -> Fvit:
    """A detector with random weights on the start's frozen CLIP.

    Args:
        recipe: Says which.
        class_names: The classes to train on boxes of.

    Raises:
        ValueError: The start has no text tower, the recipe names a frozen CLIP of its own, or
            its blocks or pixels are those of another one.
    """
    if any(getattr(recipe.model, name) is not None for name in TOWERS):
        raise ValueError(
            f"the frozen CLIP is that of start ({recipe.start!r}); leave {', '.join(TOWERS)} out "
            "of [model]"
        )
    encoder = frozen_clip(recipe.start, activation=recipe.activation)
    settings = tower_settings(encoder)
    check_start(recipe.model, encoder, source=recipe.start)
    config = replace(
        recipe.model,
        **settings,
        base_classes="",
        own_base_classes=class_names,
    )
    model = build(config)
    model.encoder.load_state_dict(encoder.state_dict())
    return model


def check_start(config: FvitConfig, encoder: FrozenClip, *, source: str) -> None:
    """Refuse settings that were made for another frozen CLIP.

    Args:
        config: The detector to be.
        encoder: The CLIP to freeze.
        source: How errors call it.

    Raises:
        ValueError: ``token_blocks`` do not end with the CLIP's last block, whose tokens are those
            of its map, or pixels are normalised neither as it was trained nor as F-ViT does.
    """
    if isinstance(encoder, PatchTowers) and config.token_blocks[-1] != encoder.num_blocks - 1:
        raise ValueError(
            f"model.token_blocks are {list(config.token_blocks)}, and {source} has blocks 0 to "
            f"{encoder.num_blocks - 1}, the last of which is one of the four; set "
            "model.token_blocks to those of this CLIP"
        )
    own = (tuple(encoder.spec.mean), tuple(encoder.spec.std))
    # F-ViT feeds a CLIP with ImageNet's, which are close to OpenAI's
    known = [own, (IMAGENET_MEAN, IMAGENET_STD)] if own == (OPENAI_MEAN, OPENAI_STD) else [own]
    if (config.mean, config.std) not in known:
        raise ValueError(
            f"model.mean and model.std are {list(config.mean)} and {list(config.std)}, and "
            f"{source} was trained with {list(own[0])} and {list(own[1])}; set model.mean and "
            "model.std to these"
        )


def set_background(model: Fvit, text: TextEncoder) -> None:
    """Let the word ``background`` stand for no class, in a model, in place."""
    row = encoded_classes([BACKGROUND], text, templates=model.config.templates).embeddings[0]
    with torch.no_grad():
        model.background.copy_(row)
