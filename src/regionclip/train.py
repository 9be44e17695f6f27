"""From images with captions or boxes to the weights of a detector: a recipe, stage by stage.

    pretrain       captions -> regions paired with concepts by a teacher -> losses -> image tower
    transfer       boxes of base classes -> regions paired with names -> losses -> detector
    proposals      boxes without names -> anchors on objects -> losses -> proposal network
    region-prompt  boxes of base classes -> their names -> loss -> what CLIP pools regions with
    cora           boxes of base classes -> queries paired with them -> losses -> localiser
    clim           captions -> mosaics, whose tiles have captions -> loss -> image tower
    clipself       images -> regions, and crops that a teacher sees -> loss -> image tower
    pseudo-labels  boxes with a model's names -> loss -> image tower
    fvit           boxes of base classes -> anchors, names, boxes, masks -> a frozen CLIP's detector
    detic          boxes of base classes, captions in mosaics -> losses -> detector
    icons          generated captions, then boxes -> a small detector from nothing
    icons-vit      generated captions -> a small CLIP with a vision transformer from nothing

Each stage is a learner (a module whose ``forward`` takes a batch and gives its losses), a stream of
batches, and the engine in ``training/`` that runs them. What a recipe may say is in ``recipes/``;
what a run reads, and the stages of pretraining, of the icons, and of each other system, in
``flows/``.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor

from regionclip.data.datasets import Dataset
from regionclip.evaluation.watching import Watch, judge_objects, judge_proposals
from regionclip.flows.clim import train_clim, train_clipself, train_pseudo_labels
from regionclip.flows.cora import train_localizer, train_region_prompt
from regionclip.flows.data import (
    open_training_data,
    test_vocabulary,
    training_vocabulary,
)
from regionclip.flows.detic import train_cascade, train_detic
from regionclip.flows.fvit import train_fvit
from regionclip.flows.icons import train_icons, train_icons_vit
from regionclip.flows.models import frozen, own_proposer, take_proposals
from regionclip.flows.pretrain import train_pretrain
from regionclip.flows.run import Run
from regionclip.loading import detector_of, proposals_only, text_encoder_of
from regionclip.methods import find_weights
from regionclip.methods.regionclip.config import RegionClipConfig
from regionclip.methods.regionclip.model import RegionClip, carry_classes
from regionclip.methods.regionclip.proposal_learner import RpnLearner
from regionclip.methods.regionclip.reading import ReadModel, read_model, save_model
from regionclip.methods.regionclip.transfer import TransferLearner
from regionclip.proposals.rpn import RegionProposalNetwork
from regionclip.proposals.rpn_files import load_trunk, save_rpn
from regionclip.recipes import (
    CascadeRecipe,
    ClimRecipe,
    ClipSelfRecipe,
    CoraRecipe,
    DeticRecipe,
    FvitRecipe,
    IconsRecipe,
    IconsVitRecipe,
    PretrainRecipe,
    ProposalRecipe,
    PseudoLabelRecipe,
    Recipe,
    RegionPromptRecipe,
    TransferRecipe,
)
from regionclip.settings import settings_to_dict
from regionclip.training import Bookkeeping, Progress, Stage, Trainer
from regionclip.training.averaging import interpolated_weights
from regionclip.training.checkpoints import BEST, ENSEMBLE, MODEL
from regionclip.training.engine import make_accelerator
from regionclip.vocabulary import Vocabulary

LOGGER = logging.getLogger(__name__)


def train(
    recipe: Recipe,
    folder: Path,
    *,
    accelerator: Accelerator | None = None,
    resume: bool = True,
    tensorboard: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Train, in one process or in those that ``accelerate launch`` or ``torchrun`` started.

    A run that was interrupted goes on from its last checkpoint.

    Args:
        recipe: What to do.
        folder: For weights, checkpoints and logs.
        accelerator: Device, precision and processes; by default
            :func:`~regionclip.training.engine.make_accelerator`'s for the recipe's precision.
        resume: Go on with the folder's last run; else that is deleted once this one begins.
        tensorboard: Also write TensorBoard's files.
        progress: Called now and then; see :data:`~regionclip.training.Progress`.

    Returns:
        The file of the weights at the end: ``model.safetensors``. Beside it may be
        ``best.safetensors``, by the metric of the recipe, and ``ensemble.safetensors``.

    Raises:
        ValueError: The folder holds another recipe's run, or the recipe cannot be carried out.
        KeyboardInterrupt: Asked to stop; the step was finished and saved.
    """
    accelerator = accelerator or make_accelerator(recipe.run.precision)
    set_seed(recipe.run.seed)
    trainer = Trainer(
        folder,
        accelerator,
        settings={"task": recipe.task, **settings_to_dict(recipe)},
        resume=resume,
        seed=recipe.run.seed,
        books=Bookkeeping(
            checkpoint_every=recipe.run.checkpoint_every,
            log_every=recipe.run.log_every,
            tensorboard=tensorboard,
        ),
        progress=progress,
    )
    FLOWS[recipe.task](recipe, Run(trainer, recipe.run))
    return folder / MODEL


def train_transfer(recipe: TransferRecipe, run: Run) -> None:
    """Boxes of base classes -> a detector of any class that the text tower can name."""
    data = open_training_data(recipe.data, max_val_images=recipe.measuring.max_images)
    run.check_metric(data.val, recipe.measuring, judge_objects)
    read = read_model(find_weights(recipe.start))
    model = read.model.float().to(run.device)
    text = text_encoder_of(read, recipe.text_weights)
    before = {} if recipe.weight_ensemble is None else _copies(model.state_dict())
    model.config = _at_test_time(model.config, recipe)
    # refused now, rather than after the proposals' stage
    recipe.optimization.part_size(run.processes.count)
    width = model.config.encoder.embed_dim
    classes = training_vocabulary(recipe, data.train, text, width=width)
    named = test_vocabulary(classes, data.val, text, templates=recipe.templates)
    other = None
    if recipe.proposals is not None:
        other = take_proposals(model, recipe.proposals)
    if recipe.proposal_training is not None:
        own = own_proposer(model, recipe.proposal_training.rpn)
        _train_proposals_of(own, recipe, data.train, run)
    proposer = other or frozen(own_proposer(model))
    learner = TransferLearner(model, classes.embeddings, proposer, recipe.learner)

    def figures(watch: Watch) -> dict[str, float]:
        _carry(model, named, learner)
        return watch.detection_figures(detector_of(model, text, proposer=other))

    def save(name: str) -> None:
        _carry(model, named, learner)
        read_again = ReadModel(model, has_text_tower=read.has_text_tower, reports=())
        save_model(run.folder / name, read_again)

    batches = run.detection_batches(
        data.train,
        recipe.optimization,
        recipe.augmentation,
        repeat_threshold=recipe.repeat_threshold,
        with_polygons=recipe.learner.train_masks,
    )
    stage = Stage(
        name="transfer",
        learner=learner,
        batches=batches,
        optimization=recipe.optimization,
        evaluation=run.evaluation(data.val, recipe.measuring, figures, lambda: save(BEST)),
    )
    run.trainer.run(stage)
    run.on_main(lambda: save(MODEL))
    if recipe.weight_ensemble is not None:
        # what the start model lacks, such as its own classes, stays as it was trained
        shared = learner.trainable_parameters().keys() - {"train_embeddings"}
        start = {name: tensor for name, tensor in before.items() if name in shared}
        share = recipe.weight_ensemble
        model.load_state_dict(interpolated_weights(start, model.state_dict(), share_of_end=share))
        run.on_main(lambda: save(ENSEMBLE))
        if stage.evaluation is not None:
            run.trainer.note("ensemble", recipe.optimization.steps, stage.evaluation.run())


def train_proposals(recipe: ProposalRecipe, run: Run) -> None:
    """Boxes, without their names -> a network that proposes regions."""
    data = open_training_data(recipe.data, max_val_images=recipe.measuring.max_images)
    run.check_metric(data.val, recipe.measuring, judge_proposals)
    network = RegionProposalNetwork(recipe.rpn).to(run.device)
    if recipe.backbone_weights is not None:
        load_trunk(network, find_weights(recipe.backbone_weights))

    def figures(watch: Watch) -> dict[str, float]:
        detector = proposals_only(
            frozen(network), shortest_side=recipe.shortest_side, longest_side=recipe.longest_side
        )
        return watch.proposal_figures(detector)

    keep_best = partial(save_rpn, run.folder / BEST, network)
    run.trainer.run(
        Stage(
            name="proposals",
            learner=RpnLearner(network, recipe.learner),
            batches=run.detection_batches(data.train, recipe.optimization, recipe.augmentation),
            optimization=recipe.optimization,
            evaluation=run.evaluation(data.val, recipe.measuring, figures, keep_best),
        )
    )
    run.on_main(lambda: save_rpn(run.folder / MODEL, network))


FLOWS: Mapping[str, Callable[..., None]] = {
    TransferRecipe.task: train_transfer,
    ProposalRecipe.task: train_proposals,
    PretrainRecipe.task: train_pretrain,
    IconsRecipe.task: train_icons,
    RegionPromptRecipe.task: train_region_prompt,
    CoraRecipe.task: train_localizer,
    FvitRecipe.task: train_fvit,
    DeticRecipe.task: train_detic,
    CascadeRecipe.task: train_cascade,
    IconsVitRecipe.task: train_icons_vit,
    ClimRecipe.task: train_clim,
    ClipSelfRecipe.task: train_clipself,
    PseudoLabelRecipe.task: train_pseudo_labels,
}
"""By the recipe's task."""


def _at_test_time(config: RegionClipConfig, recipe: TransferRecipe) -> RegionClipConfig:
    """The model's configuration with what the recipe says of detection."""
    return replace(
        config,
        shortest_side=recipe.shortest_side,
        longest_side=recipe.longest_side,
        templates=recipe.templates,
        objectness_fusion=recipe.objectness_fusion,
        selection=replace(
            config.selection, min_score=recipe.min_score, max_detections=recipe.max_detections
        ),
    )


def _train_proposals_of(
    network: RegionProposalNetwork, recipe: TransferRecipe, train_set: Dataset, run: Run
) -> None:
    """Train a model's own proposal network before the rest of it, as the recipe says."""
    training = recipe.proposal_training
    if training is None:
        return
    plan = training.optimization
    batches = run.detection_batches(train_set, plan, recipe.augmentation)
    learner = RpnLearner(network, training.learner)
    run.trainer.run(Stage(name="proposals", learner=learner, batches=batches, optimization=plan))


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: each.detach().clone() for name, each in tensors.items()}


def _carry(model: RegionClip, named: Vocabulary, learner: TransferLearner) -> None:
    """Let the model carry its classes, the trained ones with the vectors that they have now."""
    trained = learner.get_parameter("train_embeddings").detach().cpu()
    rows = torch.cat([trained, named.embeddings[learner.num_classes :]])
    carry_classes(model, named.names, rows)
