"""Region-text pretraining: captions -> regions paired with concepts -> losses -> image tower.

The student is CLIP's ResNet, with a proposal network of its own perhaps, or any tower with a dense
map, such as a ViT or ConvNeXt.
"""

import logging
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from regionclip.concepts.pool import ConceptPool
from regionclip.data.caption_sources import open_captions, stored_boxes
from regionclip.data.left_out import LeftOutCounts
from regionclip.detect import Detector
from regionclip.encoders.text import num_cut
from regionclip.encoders.vit_weights import Activation
from regionclip.evaluation.watching import Watch, judge_objects
from regionclip.flows.data import open_val
from regionclip.flows.models import clip_with_text, own_proposer, selecting, take_network
from regionclip.flows.run import Run
from regionclip.flows.towers import Tower, open_tower_as_named, refuse_activation, refuse_untold
from regionclip.loading import DTYPES, LoadOptions, detector_of, load, region_embedder
from regionclip.loading.proposals import open_proposals
from regionclip.methods import find_weights
from regionclip.methods.regionclip.model import RegionClip
from regionclip.methods.regionclip.pretrain import PretrainLearner, Teacher
from regionclip.methods.regionclip.reading import ReadModel, read_teacher, save_model
from regionclip.methods.regionclip.students import DenseStudent, ResNetStudent, Student
from regionclip.proposals.proposer import Proposer
from regionclip.recipes import STORED, PretrainRecipe
from regionclip.regions.embedder import RegionEmbedder
from regionclip.structures import CaptionedBatch
from regionclip.training import Stage
from regionclip.training.checkpoints import BEST, MODEL

LOGGER = logging.getLogger(__name__)
TaughtBy = tuple[RegionEmbedder, str]
"""A teacher's image tower, and the ``encoder_id`` of its space."""


@dataclass(frozen=True, slots=True)
class Start:
    """A model to begin with.

    Attributes:
        student: What learns.
        proposer: What proposes regions; asked for only if some are needed.
        own_teacher: The teacher if the recipe names none.
        detect: Makes a detector with the weights that the student has at that time.
        save: Writes a file that :func:`regionclip.load` reads.
    """

    student: Student
    proposer: Callable[[], Proposer]
    own_teacher: Callable[[], TaughtBy]
    detect: Callable[[], Detector]
    save: Callable[[Path], None]


def train_pretrain(recipe: PretrainRecipe, run: Run) -> None:
    """Images with captions -> an image tower whose regions a text tower can name."""
    captions = open_captions(
        recipe.data,
        run_folder=run.folder,
        resume=run.trainer.resume,
        is_main=run.processes.is_main,
    )
    val = open_val(recipe)
    run.check_metric(val, recipe.measuring, judge_objects)
    tower = open_tower_as_named(recipe.start, run.device, activation=recipe.activation)
    start = resnet_start(recipe, run) if tower is None else tower_start(recipe, tower, run.device)
    pool = ConceptPool.load(recipe.concepts)
    teacher = teacher_of(recipe, start, pool)
    wanted = pool.teacher_vocabulary.encoder_id if teacher.regions is None else None
    stored = stored_boxes(recipe.data, captions, features_of=wanted)
    proposer = start.proposer() if stored is None or val is not None else None
    learner = PretrainLearner(
        start.student,
        pool.student.embeddings,
        teacher,
        proposer if stored is None else None,
        recipe.learner,
    )

    def batches(counts: LeftOutCounts) -> Callable[[int], Iterable[CaptionedBatch]]:
        return run.caption_batches(
            captions,
            recipe.optimization,
            recipe.augmentation,
            proposer=stored,
            left_out=counts,
            num_cut=partial(num_cut, start.student.encoder),
        )

    def figures(watch: Watch) -> dict[str, float]:
        return watch.detection_figures(start.detect())

    left_out = LeftOutCounts()
    stage = Stage(
        name="pretraining",
        learner=learner,
        batches=batches(left_out),
        optimization=recipe.optimization,
        evaluation=run.evaluation(
            val, recipe.measuring, figures, lambda: start.save(run.folder / BEST)
        ),
        tally=left_out,
    )
    LOGGER.info("pretraining on %s, with %d concepts", captions.source, len(pool))
    # with counts of its own: what the trial comes upon will come again
    trial = replace(stage, batches=batches(LeftOutCounts()))
    run.announce(trial, num_regions=recipe.learner.regions_per_image)
    run.train_and_tell(stage, left_out)
    run.on_main(lambda: start.save(run.folder / MODEL))


def resnet_start(recipe: PretrainRecipe, run: Run) -> Start:
    """CLIP's ResNet, which keeps the proposal network that it has or is given.

    Raises:
        ValueError: It has no text tower, or settings are for another kind of tower.
    """
    refuse_activation(recipe.start, recipe.activation)
    model = clip_with_text(recipe.start).to(run.device)
    other: Proposer | None = None
    if recipe.proposals is not None and not take_network(model, recipe.proposals):
        other = _given_proposals(recipe, recipe.proposals, run.device)

    def proposer() -> Proposer:
        return selecting(own_proposer(model), recipe.selection) if other is None else other

    def detect() -> Detector:
        own = other if model.proposer is None else None
        return detector_of(model, model.encoder, proposer=own)

    def save(path: Path) -> None:
        save_model(path, ReadModel(model, has_text_tower=True, reports=()))

    student = ResNetStudent(model.encoder, recipe.learner)
    return Start(student, proposer, lambda: _own_teacher(recipe, model), detect, save)


def tower_start(recipe: PretrainRecipe, tower: Tower, device: torch.device) -> Start:
    """A tower with a dense map, which proposes no regions itself.

    Args:
        recipe: Whose start it is.
        tower: On ``device``.
        device: To train on.

    Raises:
        ValueError: Settings are for another kind of tower.
    """

    def proposer() -> Proposer:
        if recipe.proposals is None:
            raise ValueError(
                f"{recipe.start} has no proposal network; set data.proposals to boxes that "
                "'regionclip propose' stored, or proposals to a name or file of a network, grid or "
                "random"
            )
        return _given_proposals(recipe, recipe.proposals, device)

    def own_teacher() -> TaughtBy:
        return _named_teacher(recipe, recipe.start, device, recipe.activation)

    def detect() -> Detector:
        found = tower.detect()
        return Detector(replace(found.parts, proposer=proposer()), found.defaults)

    student = DenseStudent(tower.encoder, recipe.learner, padding=tower.padding)
    return Start(student, proposer, own_teacher, detect, tower.save)


def teacher_of(recipe: PretrainRecipe, start: Start, pool: ConceptPool) -> Teacher:
    """What matches regions to the concepts of a pool.

    Args:
        recipe: Says what.
        start: The start model, on the device to run on.
        pool: The concepts.

    Raises:
        ValueError: The pool is of another space than the student or the teacher; the start's file
            has a teacher of another architecture than the student, whose space nothing in it tells;
            or the recipe's teacher is unknown, or what it computes with.
    """
    concepts = pool.teacher_vocabulary
    if recipe.teacher == STORED:
        # whose vectors they are is checked where they are read
        regions, teacher_id = None, concepts.encoder_id
    elif recipe.teacher is not None:
        device = start.student.device
        activation = recipe.teacher_activation
        refuse_untold(recipe.teacher, activation)
        regions, teacher_id = _named_teacher(recipe, recipe.teacher, device, activation)
    else:
        regions, teacher_id = start.own_teacher()
    pool.check_encoders(start.student.encoder.encoder_id, teacher_id)
    return Teacher(regions, concepts.embeddings)


def _named_teacher(
    recipe: PretrainRecipe, name: str, device: torch.device, activation: Activation | None
) -> TaughtBy:
    found = load(
        name,
        device=str(device),
        precision=recipe.run.precision,
        regions=recipe.teacher_regions,
        options=LoadOptions(activation=activation),
    )
    return found.parts.regions, found.encoder_id


def _own_teacher(recipe: PretrainRecipe, model: RegionClip) -> TaughtBy:
    """The teacher in the file of a ResNet, else the model as it is now."""
    own = read_teacher(find_weights(recipe.start)) or deepcopy(model.encoder)
    if own.spec != model.encoder.spec:
        raise ValueError(
            f"the teacher in {recipe.start} is a {own.spec.name} without a text tower; set teacher "
            f"to a model that has one, such as openai:{own.spec.name}"
        )
    own = own.to(model.encoder.device).requires_grad_(False)
    dtype = DTYPES[recipe.run.precision]
    return region_embedder(own, recipe.teacher_regions, dtype=dtype), model.encoder.encoder_id


def _given_proposals(recipe: PretrainRecipe, source: str, device: torch.device) -> Proposer:
    return open_proposals(
        source,
        device=str(device),
        nms_iou=recipe.selection.nms_iou,
        max_proposals=recipe.selection.post_nms_topk,
    )
