"""Where a run's models come from, and what proposes regions."""

from copy import deepcopy
from dataclasses import replace

from regionclip.loading.open_clip import create_named
from regionclip.loading.proposals import open_proposals, trainable_rpn
from regionclip.loading.regionclip import resnet_of
from regionclip.loading.request import is_open_clip_name
from regionclip.methods import find_weights
from regionclip.methods.regionclip.model import RegionClip
from regionclip.methods.regionclip.reading import read_model
from regionclip.proposals.box_folder import BoxFolder
from regionclip.proposals.proposer import Proposer
from regionclip.proposals.rpn import RegionProposalNetwork, RpnConfig, RpnSelection
from regionclip.proposals.table import BoxTable


def clip_with_text(source: str) -> RegionClip:
    """A model with an image and a text tower, in float32.

    Args:
        source: Known name or file, or ``tag:architecture`` of one of open_clip's ResNets.

    Raises:
        ValueError: It has no text tower.
    """
    if is_open_clip_name(source):
        return resnet_of(create_named(source), source=source).float()
    read = read_model(find_weights(source))
    if not read.has_text_tower:
        raise ValueError(
            f"{source} carries no text tower to read class names with; start with a CLIP, such as "
            f"openai:{read.model.encoder.spec.name}"
        )
    return read.model.float()


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
