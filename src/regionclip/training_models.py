"""Where a run's models come from: teachers, and what proposes regions."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from regionclip.concepts.pool import ConceptPool
from regionclip.loading import DTYPES, load, region_embedder, text_encoder_of
from regionclip.methods import find_weights
from regionclip.methods.regionclip.model import RegionClip
from regionclip.methods.regionclip.pretrain import Teacher
from regionclip.methods.regionclip.reading import ReadModel, read_model, read_teacher
from regionclip.proposal_loading import open_proposals, trainable_rpn
from regionclip.proposals.box_folder import BoxFolder
from regionclip.proposals.proposer import Proposer
from regionclip.proposals.rpn import RegionProposalNetwork, RpnConfig, RpnSelection
from regionclip.proposals.table import BoxTable
from regionclip.recipes import STORED, PretrainRecipe
from regionclip.regions.embedder import RegionEmbedder


def teacher_of(recipe: PretrainRecipe, start: Path, read: ReadModel, pool: ConceptPool) -> Teacher:
    """What matches regions to the concepts of a pool.

    Args:
        recipe: Says what.
        start: The start model's file.
        read: The start model, on the device to run on.
        pool: The concepts.

    Raises:
        ValueError: The pool is of another space than the student or the teacher; the start's file
            has a teacher of another architecture than the student, whose space nothing in it tells;
            or the recipe's teacher is unknown.
    """
    concepts = pool.teacher_vocabulary
    if recipe.teacher == STORED:
        # whose vectors they are is checked where they are read
        regions, teacher_id = None, concepts.encoder_id
    else:
        regions, teacher_id = _running_teacher(recipe, start, read.model)
    pool.check_encoders(text_encoder_of(read).encoder_id, teacher_id)
    return Teacher(regions, concepts.embeddings)


def _running_teacher(
    recipe: PretrainRecipe, start: Path, model: RegionClip
) -> tuple[RegionEmbedder, str]:
    """An image tower, and the ``encoder_id`` of its space."""
    dtype, device = DTYPES[recipe.run.precision], model.encoder.device
    if recipe.teacher is not None:
        found = load(
            recipe.teacher,
            device=str(device),
            precision=recipe.run.precision,
            regions=recipe.teacher_regions,
        )
        return found.parts.regions, found.encoder_id
    own = read_teacher(start) or deepcopy(model.encoder)
    if own.spec != model.encoder.spec:
        raise ValueError(
            f"the teacher in {recipe.start} is a {own.spec.name} without a text tower; set teacher "
            f"to a model that has one, such as openai:{own.spec.name}"
        )
    own = own.to(device).requires_grad_(False)
    embedder = region_embedder(own, recipe.teacher_regions, dtype=dtype)
    return embedder, model.encoder.encoder_id


def clip_with_text(source: str) -> RegionClip:
    """A model with an image and a text tower, in float32.

    Args:
        source: Known name or file.

    Raises:
        ValueError: It has no text tower.
    """
    read = read_model(find_weights(source))
    if not read.has_text_tower:
        raise ValueError(
            f"{source} carries no text tower to read class names with; start with a CLIP, such as "
            f"openai:{read.model.encoder.spec.name}"
        )
    return read.model.float()


def other_proposals(model: RegionClip, recipe: PretrainRecipe) -> Proposer | None:
    """What proposes regions in place of the model's own network.

    A network of the kind that a model can keep becomes its own; it then is not returned.
    """
    if recipe.proposals is None or take_network(model, recipe.proposals):
        return None
    return open_proposals(
        recipe.proposals,
        device=str(model.encoder.device),
        nms_iou=recipe.selection.nms_iou,
        max_proposals=recipe.selection.post_nms_topk,
    )


def take_proposals(model: RegionClip, source: str) -> Proposer | None:
    """Give a model a proposal network in place of its own; what is no such network is returned.

    Raises:
        ValueError: ``source`` is a file of boxes, or none of what proposals come from.
    """
    if take_network(model, source):
        return None
    other = open_proposals(source, device=str(model.encoder.device))
    if isinstance(other, BoxTable | BoxFolder):
        raise ValueError(
            f"{source} holds boxes of images as they are, and training resizes and mirrors them; "
            "set proposals to a network, such as torchvision, or to grid"
        )
    # its own would propose other regions than those it was trained on
    model.proposer = None
    model.config = replace(model.config, rpn=None)
    return other


def take_network(model: RegionClip, source: str) -> bool:
    """Give a model the proposal network of a file in place of its own, if that is what it is."""
    network = trainable_rpn(source)
    if network is None:
        return False
    model.proposer = network.to(model.encoder.device)
    model.config = replace(model.config, rpn=network.config)
    return True


def own_proposer(model: RegionClip, shape: RpnConfig | None = None) -> RegionProposalNetwork:
    """The model's proposal network; a new one in its place, if a shape is given.

    Raises:
        ValueError: It has none, and no shape is given.
    """
    if shape is not None:
        model.proposer = RegionProposalNetwork(shape).to(model.encoder.device)
        model.config = replace(model.config, rpn=shape)
    if model.proposer is None:
        raise ValueError(
            "the start model has no proposal network; set proposals to a name or file of one, or "
            "train one first ([proposal_training.rpn], or 'regionclip train proposals')"
        )
    return model.proposer


def selecting(network: RegionProposalNetwork, selection: RpnSelection) -> RegionProposalNetwork:
    """A frozen copy that gives other proposals."""
    network = frozen(network)
    network.selection = selection
    return network


def frozen(network: RegionProposalNetwork) -> RegionProposalNetwork:
    """A copy for inference, in which batch norms are part of the convolutions."""
    return deepcopy(network).eval().fold_batch_norms().requires_grad_(False)
