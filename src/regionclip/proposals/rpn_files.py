"""Proposal networks of our own training: written, read back, and begun from a known backbone."""

from pathlib import Path

from regionclip.checkpoints import (
    CheckpointError,
    WithoutRandomWeights,
    load_strict,
    read_checkpoint,
    read_native_metadata,
    save_native,
)
from regionclip.settings import settings_from, settings_to_dict

from .rpn import RegionProposalNetwork, RpnConfig

RPN_METHOD = "rpn"
"""What the metadata of a file with nothing but a proposal network call its method."""


def save_rpn(path: str | Path, network: RegionProposalNetwork) -> None:
    """Write a network with all that is needed to build it again.

    Args:
        path: A ``.safetensors`` file.
        network: As it is trained: its batch norms are not folded.
    """
    config = settings_to_dict(network.config)
    save_native(path, network.state_dict(), method=RPN_METHOD, config=config)


def read_rpn(path: str | Path) -> RegionProposalNetwork:
    """Read what :func:`save_rpn` wrote, in ``eval`` mode.

    Raises:
        CheckpointError: The file is damaged, incomplete or holds something else.
    """
    metadata = read_native_metadata(path)
    if metadata.method != RPN_METHOD:
        raise CheckpointError(
            f"{path} is a model of {metadata.method!r}, not a proposal network alone"
        )
    config = settings_from(RpnConfig, metadata.config, source=str(path))
    with WithoutRandomWeights():
        network = RegionProposalNetwork(config)
    load_strict(network, read_checkpoint(path), source=str(path), target="a proposal network")
    return network.eval()


def load_trunk(network: RegionProposalNetwork, path: str | Path) -> None:
    """Fill a network's backbone with a ResNet's weights, by torchvision's names.

    Args:
        network: Its backbone may have fewer stages than the ResNet.
        path: A state dict of a torchvision ResNet; its classifier and later stages are left over.

    Raises:
        CheckpointError: The file lacks tensors, or they are of another shape.
    """
    load_strict(
        network.backbone,
        read_checkpoint(path),
        source=str(path),
        target="the backbone of a proposal network",
        allowed_left_over=("fc.", "layer"),
    )
