"""Runs that teach dense image towers: CLIM, CLIPSelf, and the baseline on pseudo labels.

clim           captions -> mosaics, whose tiles have captions -> loss -> image tower
clipself       images -> regions, and crops of them seen by a teacher -> loss -> image tower
pseudo-labels  boxes with a model's names -> loss -> image tower
"""

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

from regionclip.data.caption_sources import open_captions
from regionclip.data.crop_loading import CropPairing
from regionclip.data.datasets import Dataset
from regionclip.data.left_out import LeftOutCounts
from regionclip.encoders.dense import DenseEncoder
from regionclip.encoders.text import num_cut
from regionclip.evaluation.watching import Watch, judge_regions
from regionclip.flows.data import (
    encoded_classes,
    measured_on,
    open_boxes,
    open_images,
    open_val,
    proposed_boxes,
    training_vocabulary,
)
from regionclip.flows.run import Run
from regionclip.flows.towers import Tower, open_map_tower, open_tower
from regionclip.methods.clim.learner import ClimLearner
from regionclip.methods.clipself.learner import ClipSelfLearner
from regionclip.methods.clipself.pseudo_labels import PseudoLabelLearner
from regionclip.recipes.clim import ClimRecipe, ClipSelfRecipe, PseudoLabelRecipe
from regionclip.recipes.settings import Measuring
from regionclip.structures import CaptionedBatch
from regionclip.training import Evaluation, Stage
from regionclip.training.averaging import StartWeights
from regionclip.training.checkpoints import BEST, MODEL

LOGGER = logging.getLogger(__name__)


def train_clim(recipe: ClimRecipe, run: Run) -> None:
    """Images with captions -> an image tower whose map knows what captions speak of."""
    plan, sets = recipe.optimization, recipe.learner.images_per_set
    _check_sets(plan.part_size(run.processes.count), sets)
    captions = open_captions(
        recipe.data,
        run_folder=run.folder,
        resume=run.trainer.resume,
        is_main=run.processes.is_main,
    )
    val = open_val(recipe)
    tower = open_tower(recipe.start, run.device, activation=recipe.activation)
    _check_sizes(recipe, tower.encoder)
    learner = ClimLearner(tower.encoder, recipe.learner, box_vectors=tower.box_vectors)
    student = _Student(run, tower, recipe.weight_ensemble, StartWeights(learner))

    def batches(counts: LeftOutCounts) -> Callable[[int], Iterable[CaptionedBatch]]:
        return run.caption_batches(
            captions,
            plan,
            recipe.augmentation,
            proposer=None,
            left_out=counts,
            num_cut=partial(num_cut, tower.encoder),
        )

    left_out = LeftOutCounts()
    stage = Stage(
        name="clim",
        learner=learner,
        batches=batches(left_out),
        optimization=plan,
        evaluation=student.evaluation(val, recipe.measuring),
        after_step=learner.bound_logit_scale,
        tally=left_out,
    )
    LOGGER.info("CLIM on %s", captions.source)
    # with counts of its own: what the trial comes upon will come again
    run.announce(replace(stage, batches=batches(LeftOutCounts())), num_regions=1)
    run.train_and_tell(stage, left_out)
    run.on_main(lambda: student.save(MODEL))


def train_clipself(recipe: ClipSelfRecipe, run: Run) -> None:
    """Images alone -> an image tower whose map knows what the tower sees in crops."""
    recipe.optimization.part_size(run.processes.count)
    has_images_alone = recipe.boxes is None or recipe.data.proposals is not None
    images = open_images(recipe.data) if has_images_alone else open_boxes(recipe.data)
    proposer = proposed_boxes(recipe.data.proposals, images)
    val = measured_on(recipe.data, max_images=recipe.measuring.max_images)
    tower = open_map_tower(recipe.start, run.device, activation=recipe.activation)
    _check_cells(recipe.start, tower.encoder, image_side=recipe.image_side)
    for side in recipe.learner.image_sides:
        _check_cells(recipe.start, tower.encoder, **{"learner.image_sides": side})
    teacher = open_map_tower(
        recipe.teacher or recipe.start,
        run.device,
        activation=recipe.activation if recipe.teacher is None else recipe.teacher_activation,
    )
    learner = ClipSelfLearner(tower.encoder, teacher.encoder, recipe.learner, seed=recipe.run.seed)
    student = _Student(run, tower, recipe.weight_ensemble, StartWeights(learner))
    pairing = CropPairing(
        regions=recipe.regions,
        image_side=recipe.image_side,
        crop_side=teacher.encoder.image_size,
    )
    stage = Stage(
        name="clipself",
        learner=learner,
        batches=run.crop_batches(images, recipe.optimization, pairing, proposer=proposer),
        optimization=recipe.optimization,
        evaluation=student.evaluation(val, recipe.measuring),
    )
    LOGGER.info("CLIPSelf on %d images of %s", len(images), images.source)
    run.announce(stage, num_regions=recipe.regions.max_regions)
    run.trainer.run(stage)
    run.on_main(lambda: student.save(MODEL))


def train_pseudo_labels(recipe: PseudoLabelRecipe, run: Run) -> None:
    """Boxes with names that a model gave -> an image tower whose map knows the names."""
    plan = recipe.optimization
    plan.part_size(run.processes.count)
    train = open_boxes(recipe.data)
    val = measured_on(recipe.data, max_images=recipe.measuring.max_images)
    tower = open_map_tower(recipe.start, run.device, activation=recipe.activation)
    _check_cells(recipe.start, tower.encoder, **{"augmentation.side": recipe.augmentation.side})
    names = training_vocabulary(recipe, train, tower.text, width=tower.encoder.embed_dim)
    learner = PseudoLabelLearner(
        tower.encoder, names.embeddings, recipe.learner, seed=recipe.run.seed
    )
    student = _Student(run, tower, recipe.weight_ensemble, StartWeights(learner))
    stage = Stage(
        name="pseudo-labels",
        learner=learner,
        batches=run.detection_batches(train, plan, recipe.augmentation),
        optimization=plan,
        evaluation=student.evaluation(val, recipe.measuring),
    )
    LOGGER.info("%d names on %d images of %s", len(names), len(train), train.source)
    run.announce(stage, num_regions=recipe.augmentation.max_objects)
    run.trainer.run(stage)
    run.on_main(lambda: student.save(MODEL))


@dataclass(frozen=True, slots=True)
class _Student:
    """What is measured and saved of a run: the tower, perhaps mixed with what it began as."""

    run: Run
    tower: Tower
    share_of_end: float | None
    start: StartWeights

    def save(self, name: str) -> None:
        """Write the tower into the run's folder."""
        with self._mixed():
            self.tower.save(self.run.folder / name)

    def evaluation(self, val: Dataset | None, measuring: Measuring) -> Evaluation | None:
        """How it is measured: by the names of true boxes. Names are encoded once."""
        if val is None:
            return None
        self.run.check_metric(val, measuring, judge_regions)
        named = encoded_classes(val.class_names, self.tower.text, templates=self.tower.templates)

        def figures(watch: Watch) -> dict[str, float]:
            with self._mixed():
                return watch.region_figures(self.tower.naming(named))

        return self.run.evaluation(val, measuring, figures, lambda: self.save(BEST))

    def _mixed(self) -> AbstractContextManager[None]:
        if self.share_of_end is None:
            return nullcontext()
        return self.start.mixed_in(share_of_end=self.share_of_end)


def _check_sizes(recipe: ClimRecipe, encoder: DenseEncoder) -> None:
    """Refuse images of a size that the tower was not trained on, or mosaics that cut cells."""
    side = recipe.augmentation.side
    if side != encoder.image_size:
        raise ValueError(
            f"augmentation.side is {side}, and {recipe.start} takes whole images in squares of "
            f"{encoder.image_size} pixels; set augmentation.side={encoder.image_size}"
        )
    pixels = recipe.learner.mosaic_pixels
    _check_cells(recipe.start, encoder, **{"learner.mosaic_pixels": pixels})


def _check_cells(start: str, encoder: DenseEncoder, **sides: int) -> None:
    """Refuse a setting that is no whole number of cells."""
    for setting, side in sides.items():
        if side % encoder.cell:
            raise ValueError(
                f"{setting} must be a multiple of {encoder.cell}, the pixels of a cell of {start}, "
                f"got {side}"
            )


def _check_sets(part_size: int, images_per_set: int) -> None:
    """Refuse a run whose every batch would be refused."""
    if part_size % images_per_set:
        raise ValueError(
            f"each process computes {part_size} images at a time, which are no whole number of "
            f"mosaic sets of {images_per_set}; set optimization.batch_size to {images_per_set} "
            "times the processes and accumulated parts, or learner.images_per_set"
        )
