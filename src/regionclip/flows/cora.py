"""CORA's two runs: a region prompt on given boxes, then a localiser on top of it."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from regionclip.data.datasets import Category
from regionclip.detect import Detector
from regionclip.encoders.text import ShortPrompts
from regionclip.evaluation.watching import Watch, judge_given_boxes, judge_objects
from regionclip.flows.data import encoded_classes, open_training_data, test_vocabulary
from regionclip.flows.models import clip_with_text
from regionclip.flows.run import Run
from regionclip.loading import cora_detector_of, detector_of, text_tower_of
from regionclip.methods.cora.class_split import uniform_numbers_of
from regionclip.methods.cora.learner import CoraLearner
from regionclip.methods.cora.model import Cora, build
from regionclip.methods.cora.reading import (
    read_region_prompt,
    save_model,
    save_region_prompt,
    set_region_prompt,
)
from regionclip.methods.cora.region_prompt import RegionPromptLearner
from regionclip.methods.regionclip.reading import ReadModel
from regionclip.methods.regionclip.reading import save_model as save_clip
from regionclip.recipes.cora import CoraRecipe, RegionPromptRecipe
from regionclip.training import Stage
from regionclip.training.checkpoints import BEST, MODEL
from regionclip.vocabulary import Vocabulary

PROMPT = "region_prompt.pth"
"""The trained prompt alone, in the original's form."""


def train_region_prompt(recipe: RegionPromptRecipe, run: Run) -> None:
    """Boxes of base classes -> a CLIP that pools regions by another positional embedding."""
    data = open_training_data(recipe.data, max_val_images=recipe.measuring.max_images)
    run.check_metric(data.val, recipe.measuring, judge_given_boxes)
    model = clip_with_text(recipe.start).to(run.device)
    model.config = replace(
        model.config,
        shortest_side=recipe.shortest_side,
        longest_side=recipe.longest_side,
        templates=recipe.templates,
        text_length=recipe.text_length,
        # as the learner sees boxes, and as CORA's detectors do
        size_rule="detr",
        box_scale="share",
    )
    text = text_tower_of(model)
    classes = encoded_classes(data.train.class_names, text, templates=recipe.templates)
    named = test_vocabulary(classes, data.val, text, templates=recipe.templates)
    learner = RegionPromptLearner(
        model.encoder, classes.embeddings, temperature=model.config.temperature
    )

    def figures(watch: Watch) -> dict[str, float]:
        return watch.given_box_figures(_naming(named, detector_of(model, text)))

    def save(name: str) -> None:
        save_clip(run.folder / name, ReadModel(model, has_text_tower=True, reports=()))

    batches = run.detection_batches(
        data.train,
        recipe.optimization,
        recipe.augmentation,
        repeat_threshold=recipe.repeat_threshold,
    )
    run.trainer.run(
        Stage(
            name="region-prompt",
            learner=learner,
            batches=batches,
            optimization=recipe.optimization,
            evaluation=run.evaluation(data.val, recipe.measuring, figures, lambda: save(BEST)),
        )
    )
    run.on_main(lambda: save(MODEL))
    run.on_main(lambda: save_region_prompt(run.folder / PROMPT, learner.prompt))


def train_localizer(recipe: CoraRecipe, run: Run) -> None:
    """Boxes of base classes -> a detector of any class that CLIP can name."""
    data = open_training_data(recipe.data, max_val_images=recipe.measuring.max_images)
    run.check_metric(data.val, recipe.measuring, judge_objects)
    model = localizer_of(recipe, data.train.categories).to(run.device)
    config = model.config
    text = ShortPrompts(model.encoder, length=config.text_length)
    classes = encoded_classes(data.train.class_names, text, templates=config.templates)
    named = test_vocabulary(classes, data.val, text, templates=config.templates)
    learner = CoraLearner(
        model,
        classes.embeddings,
        recipe.learner,
        numbers_of=uniform_numbers_of(recipe.run.seed),
    )

    def figures(watch: Watch) -> dict[str, float]:
        return watch.detection_figures(_naming(named, cora_detector_of(model)))

    batches = run.detection_batches(
        data.train,
        recipe.optimization,
        recipe.augmentation,
        repeat_threshold=recipe.repeat_threshold,
    )
    keep_best = partial(save_model, run.folder / BEST, model)
    run.trainer.run(
        Stage(
            name="localizer",
            learner=learner,
            batches=batches,
            optimization=recipe.optimization,
            evaluation=run.evaluation(data.val, recipe.measuring, figures, keep_best),
            averaged_twice=recipe.learner.averaged_twice,
        )
    )
    run.on_main(lambda: save_model(run.folder / MODEL, model))


def localizer_of(recipe: CoraRecipe, categories: Sequence[Category]) -> Cora:
    """A localiser with random weights on the start's towers, with its region prompt.

    Args:
        recipe: Says where these come from.
        categories: The classes to train on boxes of; of novel ones a model made these.

    Raises:
        ValueError: The start has no text tower, or the prompt is not one of its kind.
    """
    encoder = clip_with_text(recipe.start).encoder
    if recipe.region_prompt is not None:
        prompt = read_region_prompt(recipe.region_prompt)
        set_region_prompt(encoder, prompt, source=recipe.region_prompt)
    config = replace(
        recipe.model,
        encoder=encoder.spec,
        base_classes="",
        own_base_classes=tuple(each.name for each in categories if each.split != "novel"),
        pseudo_classes=tuple(each.name for each in categories if each.split == "novel"),
    )
    model = build(config)
    model.encoder.load_state_dict(encoder.state_dict())
    return model


def _naming(classes: Vocabulary, detector: Detector) -> Detector:
    """The same detector, carrying vectors of classes that then need not be encoded again."""
    parts = replace(detector.parts, class_vocabulary=classes)
    return Detector(parts, detector.defaults)
