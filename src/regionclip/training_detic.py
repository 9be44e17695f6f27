"""Detic's run: boxes of base classes, captions and mosaics -> a detector of any class."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, replace
from functools import partial

from regionclip.checkpoints import load_strict
from regionclip.concepts.class_names import builtin_names
from regionclip.concepts.mentions import ClassMentions
from regionclip.data.caption_loading import LeftOutCounts
from regionclip.data.caption_sources import open_captions
from regionclip.detic_loading import detic_detector_of
from regionclip.detic_recipes import DeticRecipe
from regionclip.encoders.clip_towers import ClipTowers
from regionclip.encoders.text import UnitPrompts
from regionclip.encoders.text_tower import TextSpec, TextTower
from regionclip.evaluation.watching import Watch, judge_objects
from regionclip.methods import find_weights
from regionclip.methods.detic.learner import DeticBatch, DeticLearner
from regionclip.methods.detic.model import Detic, build, carry_classes
from regionclip.methods.detic.reading import load_resnet, read_model, save_model
from regionclip.structures import DetectionBatch, TiledBatch
from regionclip.training import Stage
from regionclip.training.checkpoints import BEST, MODEL
from regionclip.training_data import encoded_classes, open_training_data, test_vocabulary
from regionclip.training_run import Run
from regionclip.training_towers import frozen_clip
from regionclip.vocabulary import Vocabulary

PictureBatches = Callable[[int], Iterable[TiledBatch]]


def train_detic(recipe: DeticRecipe, run: Run) -> None:
    """Boxes of base classes, and captions -> a detector of any class."""
    data = open_training_data(recipe.data, max_val_images=recipe.measuring.max_images)
    run.check_metric(data.val, recipe.measuring, judge_objects)
    model = detector_of_recipe(recipe).to(run.device)
    text, templates = UnitPrompts(model.encoder), model.config.templates
    classes = encoded_classes(data.train.class_names, text, templates=templates)
    named = test_vocabulary(classes, data.val, text, templates=templates)
    carry_classes(model, named.names, named.embeddings)
    tagged = named
    if recipe.learner.tag_classes:
        names = builtin_names(recipe.learner.tag_classes)
        tagged = encoded_classes(names, text, templates=templates)
    learner = DeticLearner(
        model, classes.embeddings, recipe.learner, tag_embeddings=tagged.embeddings
    )

    def figures(watch: Watch) -> dict[str, float]:
        return watch.detection_figures(detic_detector_of(model, model.encoder))

    keep_best = partial(save_model, run.folder / BEST, model)
    left_out = LeftOutCounts()
    boxes = run.detection_batches(data.train, recipe.optimization, recipe.augmentation)
    stage = Stage(
        name="detector",
        learner=learner,
        batches=_together(boxes, _picture_batches(recipe, run, tagged, left_out)),
        optimization=recipe.optimization,
        evaluation=run.evaluation(data.val, recipe.measuring, figures, keep_best),
    )
    try:
        run.trainer.run(stage)
    except KeyboardInterrupt:
        run.say_what_was_left_out(left_out)
        raise
    run.on_main(lambda: save_model(run.folder / MODEL, model))
    run.say_what_was_left_out(left_out)


def detector_of_recipe(recipe: DeticRecipe) -> Detic:
    """The detector to begin with, with a text tower.

    Raises:
        CheckpointError: A file holds something else.
        ValueError: There is no text tower, or two.
    """
    if recipe.start is None:
        tower = lent_text_tower(str(recipe.text_weights))
        model = build(replace(recipe.model, text=tower.spec))
        model.encoder.load_state_dict(tower.state_dict())
        load_resnet(model, find_weights(str(recipe.backbone_weights)))
        return model
    read = read_model(find_weights(recipe.start))
    if read.has_text_tower and recipe.text_weights is not None:
        raise ValueError(f"{recipe.start} has its own text tower; leave out text_weights")
    if read.has_text_tower:
        return read.model
    if recipe.text_weights is None:
        raise ValueError(
            f"{recipe.start} carries no text tower to read captions and names with; set "
            "text_weights, such as openai:ViT-B-32"
        )
    tower = lent_text_tower(recipe.text_weights)
    model = build(replace(read.model.config, text=tower.spec))
    own = {name: each for name, each in read.model.state_dict().items() if "encoder." not in name}
    load_strict(model, own, source=recipe.start, target="Detic", allowed_missing=("encoder.",))
    model.encoder.load_state_dict(tower.state_dict())
    return model


def lent_text_tower(source: str) -> TextTower:
    """The text tower of a CLIP, alone.

    Raises:
        CheckpointError: It is no CLIP that is known here.
        ValueError: It has no text tower.
    """
    towers = frozen_clip(source)
    if not isinstance(towers, ClipTowers):
        raise ValueError(f"{source} has no text tower of CLIP's; give one such as openai:ViT-B-32")
    spec = TextSpec(**{each.name: getattr(towers.spec, each.name) for each in fields(TextSpec)})
    tower = TextTower(spec)
    own = tower.state_dict()
    tower.load_state_dict({name: towers.state_dict()[name] for name in own})
    return tower


def _picture_batches(
    recipe: DeticRecipe, run: Run, tagged: Vocabulary, left_out: LeftOutCounts
) -> dict[str, PictureBatches]:
    """Captioned images alone and in mosaics, those of which the recipe speaks."""
    if recipe.captions is None:
        return {}
    source = open_captions(
        recipe.captions,
        run_folder=run.folder,
        resume=run.trainer.resume,
        is_main=run.processes.is_main,
    )
    tags = None if recipe.learner.tags is None else ClassMentions(tagged.names)
    kinds = {"images": recipe.images, "mosaics": recipe.mosaics}
    return {
        name: run.tiled_batches(
            source,
            replace(recipe.optimization, batch_size=kind.per_step),
            kind.layout,
            stream=stream,
            tags=tags,
            left_out=left_out,
        )
        for stream, (name, kind) in enumerate(kinds.items(), start=2)
        if kind is not None
    }


def _together(
    boxes: Callable[[int], Iterable[DetectionBatch]], pictures: Mapping[str, PictureBatches]
) -> Callable[[int], Iterable[DeticBatch]]:
    """Batches of all kinds, part by part."""

    def from_part(first: int) -> Iterator[DeticBatch]:
        streams = [own(first) for own in pictures.values()]
        for detection, *others in zip(boxes(first), *streams, strict=True):
            yield DeticBatch(detection, dict(zip(pictures, others, strict=True)))

    return from_part
