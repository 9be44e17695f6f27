"""The parts of a RegionCLIP detector, side by side; ``detect.py`` runs them in order."""

import torch
from torch import nn

from regionclip.encoders.clip_resnet import ClipResNet
from regionclip.proposals.rpn import RegionProposalNetwork

from .config import RegionClipConfig

MASK_CHANNELS = 256
"""Channels between the mask head's two layers; Mask R-CNN (arXiv:1703.06870), fig. 4."""


class MaskHead(nn.Sequential):
    """Class-agnostic masks from layer4 cells: ``(R, C, g, g)`` to logits ``(R, 1, 2g, 2g)``.

    Source:
        Mask R-CNN (arXiv:1703.06870), fig. 4, left.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.add_module("deconv", nn.ConvTranspose2d(in_channels, MASK_CHANNELS, 2, stride=2))
        self.add_module("relu", nn.ReLU(inplace=True))
        self.add_module("predictor", nn.Conv2d(MASK_CHANNELS, 1, 1))


class RegionClip(nn.Module):
    """All weights of one detector; parts that a file does not carry are ``None``.

    Attributes:
        config: What it was built from.
        encoder: Image and text tower.
        proposer: The localiser, with a backbone of its own.
        box_regressor: Class-agnostic offsets from region features.
        mask_head: Class-agnostic masks from layer4 cells.
        train_embeddings: Rows of the classes that a fine-tuned file was trained on.
        test_embeddings: Rows of the classes that it names at test time.
    """

    def __init__(self, config: RegionClipConfig) -> None:
        super().__init__()
        self.config = config
        width = config.encoder.embed_dim
        self.encoder = ClipResNet(config.encoder)
        self.proposer = None if config.rpn is None else RegionProposalNetwork(config.rpn)
        self.box_regressor = nn.Linear(width, 4) if config.box_regression else None
        self.mask_head = MaskHead(32 * config.encoder.width) if config.mask_head else None
        self.train_embeddings = _rows(config.num_train_classes, width)
        self.test_embeddings = _rows(config.num_test_classes, width)


def build(config: RegionClipConfig) -> RegionClip:
    """Build a detector with random weights, in ``eval`` mode, ready for a checkpoint."""
    return RegionClip(config).eval()


def _rows(num_classes: int, width: int) -> nn.Parameter | None:
    if num_classes == 0:
        return None
    return nn.Parameter(torch.zeros(num_classes, width), requires_grad=False)
