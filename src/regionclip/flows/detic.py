"""Detic's run: boxes of base classes, captions and mosaics -> a detector of any class."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from regionclip.checkpoints import load_strict
from regionclip.checkpoints.own_models import ReadWithText
from regionclip.concepts.class_names import builtin_names
from regionclip.concepts.mentions import ClassMentions
from regionclip.data.caption_sources import open_captions
from regionclip.data.datasets import Dataset
from regionclip.data.left_out import LeftOutCounts
from regionclip.data.sampling import images_per_class
from regionclip.detect import Detector
from regionclip.encoders.clip_towers import ClipTowers
from regionclip.encoders.text import UnitPrompts, num_cut
from regionclip.encoders.text_tower import TextSpec, TextTower
from regionclip.encoders.vit_weights import Activation
from regionclip.evaluation.watching import Watch, judge_objects, judge_objects_and_masks
from regionclip.flows.data import TrainingData, encoded_classes, open_training_data, test_vocabulary
from regionclip.flows.run import Run
from regionclip.flows.towers import frozen_clip
from regionclip.loading.detic import detic_detector_of
from regionclip.loading.detic_cascade import cascade_detector_of
from regionclip.methods import find_weights
from regionclip.methods.detic import cascade_model
from regionclip.methods.detic.cascade_learner import CascadeLearner
from regionclip.methods.detic.cascade_model import CascadeDetic, build_cascade
from regionclip.methods.detic.cascade_reading import load_backbone, read_cascade, save_cascade
from regionclip.methods.detic.learner import DeticBatch, DeticLearner
from regionclip.methods.detic.model import Detic, build, carry_classes
from regionclip.methods.detic.reading import load_resnet, read_model, save_model
from regionclip.recipes.detic import CascadeRecipe, DeticRecipe, check_parts, pictures_of
from regionclip.structures import DetectionBatch, TiledBatch
from regionclip.training import Stage
from regionclip.training.checkpoints import BEST, MODEL
from regionclip.vocabulary import Vocabulary

PictureBatches = Callable[[int], Iterable[TiledBatch]]


Model = TypeVar("Model", Detic, CascadeDetic)
RecipeOf = TypeVar("RecipeOf", DeticRecipe, CascadeRecipe)


@dataclass(frozen=True, slots=True)
class _Form(Generic[RecipeOf, Model]):
    """What the run does in its own way for each architecture.

    Attributes:
        begin: Makes the detector to begin with.
        carry: Gives it classes.
        learner: Makes what learns, of a detector, classes, and the classes that tags speak of.
        detector: Makes a detector of it, to measure.
        save: Writes it.
        repeat_threshold: Of a recipe.
        with_polygons: Of a recipe; masks are measured then too.
    """

    begin: Callable[[RecipeOf], Model]
    carry: Callable[[Model, Sequence[str], Tensor], None]
    learner: Callable[[RecipeOf, Model, Vocabulary, Vocabulary, Dataset], nn.Module]
    detector: Callable[[Model], Detector]
    save: Callable[[Path, Model], None]
    repeat_threshold: Callable[[RecipeOf], float] = lambda _recipe: 0.0
    with_polygons: Callable[[RecipeOf], bool] = lambda _recipe: False


def train_detic(recipe: DeticRecipe, run: Run) -> None:
    """Boxes of base classes, and captions -> a detector of any class."""
    _train(
        recipe,
        run,
        _Form(
            begin=detector_of_recipe,
            carry=carry_classes,
            learner=lambda own, model, classes, tagged, _data: DeticLearner(
                model, classes.embeddings, own.learner, tag_embeddings=tagged.embeddings
            ),
            detector=lambda model: detic_detector_of(model, model.encoder),
            save=save_model,
        ),
    )


def train_cascade(recipe: CascadeRecipe, run: Run) -> None:
    """The same with CenterNet2's detector, and masks where the recipe says so."""
    _train(
        recipe,
        run,
        _Form(
            begin=cascade_of_recipe,
            carry=cascade_model.carry_classes,
            learner=lambda own, model, classes, tagged, data: CascadeLearner(
                model,
                classes.embeddings,
                own.learner,
                images_per_class=images_per_class(data),
                tag_embeddings=tagged.embeddings,
                seed=own.run.seed,
            ),
            detector=lambda model: cascade_detector_of(model, model.encoder),
            save=save_cascade,
            repeat_threshold=lambda own: own.repeat_threshold,
            with_polygons=lambda own: own.learner.train_masks,
        ),
    )


def _train(recipe: RecipeOf, run: Run, form: _Form[RecipeOf, Model]) -> None:
    check_parts(recipe, run.processes.count)
    data = open_training_data(recipe.data, max_val_images=recipe.measuring.max_images)
    draws = form.with_polygons(recipe)
    judge = judge_objects_and_masks if draws else judge_objects
    run.check_metric(data.val, recipe.measuring, judge)
    model = form.begin(recipe).to(run.device)
    classes, tagged = _vocabularies(recipe, model, data, form.carry)

    def figures(watch: Watch) -> dict[str, float]:
        detector = form.detector(model)
        return watch.mask_figures(detector) if draws else watch.detection_figures(detector)

    boxes = run.detection_batches(
        data.train,
        recipe.optimization,
        recipe.augmentation,
        repeat_threshold=form.repeat_threshold(recipe),
        with_polygons=draws,
    )
    pictures = _picture_batches(recipe, run, tagged, model.encoder)
    keep_best = partial(form.save, run.folder / BEST, model)
    left_out = LeftOutCounts()
    stage = Stage(
        name="detector",
        learner=form.learner(recipe, model, classes, tagged, data.train),
        batches=_together(boxes, pictures(left_out)),
        optimization=recipe.optimization,
        evaluation=run.evaluation(data.val, recipe.measuring, figures, keep_best),
        tally=left_out,
    )
    # with counts of its own: what the trial comes upon will come again
    run.announce(
        replace(stage, batches=_together(boxes, pictures(LeftOutCounts()))),
        num_regions=recipe.learner.regions_per_image,
        more_images=sum(each.per_step for each in pictures_of(recipe).values()),
    )
    run.train_and_tell(stage, left_out)
    run.on_main(lambda: form.save(run.folder / MODEL, model))


def _vocabularies(
    recipe: DeticRecipe | CascadeRecipe,
    model: Model,
    data: TrainingData,
    carry: Callable[[Model, Sequence[str], Tensor], None],
) -> tuple[Vocabulary, Vocabulary]:
    """Classes of boxes, and those that tags speak of; the model carries those it is tested on."""
    text, templates = UnitPrompts(model.encoder), model.config.templates
    classes = encoded_classes(data.train.class_names, text, templates=templates)
    named = test_vocabulary(classes, data.val, text, templates=templates)
    carry(model, named.names, named.embeddings)
    if not recipe.learner.tag_classes:
        return classes, named
    names = builtin_names(recipe.learner.tag_classes)
    return classes, encoded_classes(names, text, templates=templates)


def detector_of_recipe(recipe: DeticRecipe) -> Detic:
    """The detector to begin with, with a text tower.

    Raises:
        CheckpointError: A file holds something else.
        ValueError: There is no text tower, or two.
    """
    return _begun(recipe, build_model=build, load_trunk=load_resnet, read=read_model)


def cascade_of_recipe(recipe: CascadeRecipe) -> CascadeDetic:
    """As :func:`detector_of_recipe`, with CenterNet2's detector."""
    return _begun(recipe, build_model=build_cascade, load_trunk=load_backbone, read=read_cascade)


def _begun(
    recipe: DeticRecipe | CascadeRecipe,
    *,
    build_model: Callable[[Any], Model],
    load_trunk: Callable[[Model, Path], object],
    read: Callable[[Path], ReadWithText[Model]],
) -> Model:
    """A new detector on a ResNet's weights, or the start."""
    if recipe.start is not None:
        return _with_words(read(find_weights(recipe.start)), recipe, build_model)
    tower = lent_text_tower(str(recipe.text_weights), activation=recipe.text_activation)
    model = build_model(replace(recipe.model, text=tower.spec))
    model.encoder.load_state_dict(tower.state_dict())
    load_trunk(model, find_weights(str(recipe.backbone_weights)))
    return model


def _with_words(
    read: ReadWithText[Model],
    recipe: DeticRecipe | CascadeRecipe,
    build_model: Callable[[Any], Model],
) -> Model:
    """A detector that was read, with its own text tower or the one that it is lent."""
    if read.has_text_tower and recipe.text_weights is not None:
        raise ValueError(f"{recipe.start} has its own text tower; leave out text_weights")
    if read.has_text_tower:
        return read.model
    if recipe.text_weights is None:
        raise ValueError(
            f"{recipe.start} carries no text tower to read captions and names with; set "
            "text_weights, such as openai:ViT-B-32"
        )
    tower = lent_text_tower(recipe.text_weights, activation=recipe.text_activation)
    model = build_model(replace(read.model.config, text=tower.spec))
    own = {name: each for name, each in read.model.state_dict().items() if "encoder." not in name}
    source = str(recipe.start)
    load_strict(model, own, source=source, target="Detic", allowed_missing=("encoder.",))
    model.encoder.load_state_dict(tower.state_dict())
    return model


def lent_text_tower(source: str, *, activation: Activation | None = None) -> TextTower:
    """The text tower of a CLIP, alone.

    Args:
        source: As :func:`~regionclip.flows.towers.frozen_clip` takes it.
        activation: What it computes with; ``None``: what the file says.

    Raises:
        CheckpointError: It is no CLIP that is known here.
        ValueError: It has no text tower, or nobody says what it computes with.
    """
    towers = frozen_clip(source, activation=activation)
    if not isinstance(towers, ClipTowers):
        raise ValueError(f"{source} has no text tower of CLIP's; give one such as openai:ViT-B-32")
    spec = TextSpec(**{each.name: getattr(towers.spec, each.name) for each in fields(TextSpec)})
    tower = TextTower(spec)
    own = tower.state_dict()
    tower.load_state_dict({name: towers.state_dict()[name] for name in own})
    return tower


def _picture_batches(
    recipe: DeticRecipe | CascadeRecipe, run: Run, tagged: Vocabulary, text: TextTower
) -> Callable[[LeftOutCounts], dict[str, PictureBatches]]:
    """Captioned images alone and in mosaics, those of which the recipe speaks.

    Returns:
        From what counts the images that cannot be used, the batches by the names of the tables.
    """
    if recipe.captions is None:
        return lambda _counts: {}
    source = open_captions(
        recipe.captions,
        run_folder=run.folder,
        resume=run.trainer.resume,
        is_main=run.processes.is_main,
    )
    tags = None if recipe.learner.tags is None else ClassMentions(tagged.names)
    # captions that only name classes are not read by the text tower
    cuts = None if recipe.learner.captions is None else partial(num_cut, text)
    streams = {"images": 2, "mosaics": 3}

    def counted_in(counts: LeftOutCounts) -> dict[str, PictureBatches]:
        return {
            name: run.tiled_batches(
                source,
                replace(recipe.optimization, batch_size=kind.per_step),
                kind.layout,
                stream=streams[name],
                tags=tags,
                left_out=counts,
                num_cut=cuts,
            )
            for name, kind in pictures_of(recipe).items()
        }

    return counted_in


def _together(
    boxes: Callable[[int], Iterable[DetectionBatch]], pictures: Mapping[str, PictureBatches]
) -> Callable[[int], Iterable[DeticBatch]]:
    """Batches of all kinds, part by part."""

    def from_part(first: int) -> Iterator[DeticBatch]:
        streams = [own(first) for own in pictures.values()]
        for detection, *others in zip(boxes(first), *streams, strict=True):
            yield DeticBatch(detection, dict(zip(pictures, others, strict=True)))

    return from_part
