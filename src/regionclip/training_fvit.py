"""F-ViT's run: boxes of base classes -> a detector on a frozen CLIP, of any class it can name."""

from dataclasses import replace
from functools import partial

import torch

from regionclip.encoders.text import TextEncoder, UnitPrompts
from regionclip.evaluation.watching import Watch, judge_objects
from regionclip.fvit_loading import fvit_detector_of
from regionclip.fvit_recipes import FvitRecipe
from regionclip.methods.fvit.config import TOWERS
from regionclip.methods.fvit.learner import FvitLearner
from regionclip.methods.fvit.model import Fvit, build, carry_classes
from regionclip.methods.fvit.reading import save_model
from regionclip.methods.fvit.towers import tower_settings
from regionclip.training import Stage
from regionclip.training.checkpoints import BEST, MODEL
from regionclip.training_data import encoded_classes, open_training_data, test_vocabulary
from regionclip.training_run import Run
from regionclip.training_towers import frozen_clip

BACKGROUND = "background"
"""The word whose vector stands for no class, where that is not learned."""


def train_fvit(recipe: FvitRecipe, run: Run) -> None:
    """Boxes of base classes -> a detector of any class that the CLIP can name."""
    data = open_training_data(recipe.data, max_val_images=recipe.measuring.max_images)
    run.check_metric(data.val, recipe.measuring, judge_objects)
    model = detector_on(recipe, data.train.class_names).to(run.device)
    text, templates = UnitPrompts(model.encoder), model.config.templates
    classes = encoded_classes(data.train.class_names, text, templates=templates)
    named = test_vocabulary(classes, data.val, text, templates=templates)
    carry_classes(model, named.names, named.embeddings)
    if model.config.background == "text":
        set_background(model, text)
    learner = FvitLearner(model, classes.embeddings, recipe.learner)

    def figures(watch: Watch) -> dict[str, float]:
        return watch.detection_figures(fvit_detector_of(model, model.encoder))

    keep_best = partial(save_model, run.folder / BEST, model)
    batches = run.detection_batches(
        data.train,
        recipe.optimization,
        recipe.augmentation,
        repeat_threshold=recipe.repeat_threshold,
        with_polygons=recipe.learner.train_masks,
    )
    run.trainer.run(
        Stage(
            name="detector",
            learner=learner,
            batches=batches,
            optimization=recipe.optimization,
            evaluation=run.evaluation(data.val, recipe.measuring, figures, keep_best),
        )
    )
    run.on_main(lambda: save_model(run.folder / MODEL, model))


def detector_on(recipe: FvitRecipe, class_names: tuple[str, ...]) -> Fvit:
    """A detector with random weights on the start's frozen CLIP.

    Args:
        recipe: Says which.
        class_names: The classes to train on boxes of.

    Raises:
        ValueError: The start has no text tower, or the recipe names a frozen CLIP of its own.
    """
    if any(getattr(recipe.model, name) is not None for name in TOWERS):
        raise ValueError(
            f"the frozen CLIP is that of start ({recipe.start!r}); leave {', '.join(TOWERS)} out "
            "of [model]"
        )
    encoder = frozen_clip(recipe.start)
    config = replace(
        recipe.model,
        **tower_settings(encoder),
        base_classes="",
        own_base_classes=class_names,
    )
    model = build(config)
    model.encoder.load_state_dict(encoder.state_dict())
    return model


def set_background(model: Fvit, text: TextEncoder) -> None:
    """Let the word ``background`` stand for no class, in a model, in place."""
    row = encoded_classes([BACKGROUND], text, templates=model.config.templates).embeddings[0]
    with torch.no_grad():
        model.background.copy_(row)
