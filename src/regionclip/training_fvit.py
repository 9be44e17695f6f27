"""F-ViT's run: boxes of base classes -> a detector on a frozen CLIP, of any class it can name."""

from dataclasses import replace
from functools import partial

import torch
from torch import nn

from regionclip.checkpoints import read_checkpoint
from regionclip.dense_loading import read_clim
from regionclip.encoders.text import TextEncoder, UnitPrompts
from regionclip.encoders.vit_weights import Activation
from regionclip.evaluation.watching import Watch, judge_objects
from regionclip.fvit_loading import fvit_detector_of
from regionclip.fvit_recipes import FvitRecipe
from regionclip.loading_request import OpenFile
from regionclip.methods import find_weights
from regionclip.methods.clim.reading import is_clim_file
from regionclip.methods.clipself import reading as clipself
from regionclip.methods.fvit.config import TOWERS
from regionclip.methods.fvit.learner import FvitLearner
from regionclip.methods.fvit.model import Fvit, build, carry_classes
from regionclip.methods.fvit.reading import save_model
from regionclip.methods.fvit.towers import tower_settings
from regionclip.training import Stage
from regionclip.training.checkpoints import BEST, MODEL
from regionclip.training_data import encoded_classes, open_training_data, test_vocabulary
from regionclip.training_models import clip_with_text
from regionclip.training_run import Run
from regionclip.training_towers import refuse_activation

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
    encoder = frozen_clip(recipe.start, activation=recipe.activation)
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


def frozen_clip(source: str, *, activation: Activation | None = None) -> nn.Module:
    """A CLIP with both towers, whichever method's file it is in, in float32.

    Args:
        source: Known name or file.
        activation: What a vision transformer's towers compute with; ``None``: what the file says.

    Raises:
        ValueError: It has no text tower, or an activation was given and it is no such transformer.
    """
    path = find_weights(source)
    state = read_checkpoint(path)
    if is_clim_file(path, state):
        file = OpenFile(path, state)
        return read_clim(file, name=source, activation=activation).float().encoder
    refuse_activation(source, activation)
    if clipself.is_clipself_file(path, state):
        return clipself.read_model(path, state).model.float().encoder
    return clip_with_text(source).encoder
