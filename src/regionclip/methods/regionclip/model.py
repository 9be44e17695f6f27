"""The parts of a RegionCLIP detector, side by side; ``detect.py`` runs them in order."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regionclip.encoders.clip_resnet import ClipResNet
from regionclip.proposals.rpn import RegionProposalNetwork

from .config import RegionClipConfig

MASK_CHANNELS = 256
"""Channels between the mask head's two layers; Mask R-CNN (arXiv:1703.06870), fig. 4."""


class MaskHead(nn.Sequential):
    """Class-agnostic masks from layer4 cells: ``(R, C, g, g)`` to logits ``(R, 1, 2g, 2g)``.

    Source:
        Mask R-CNN (arXiv:1703.06870), fig. 4, left; first weights as detectron2@e3ee0ab
        ``detectron2/modeling/roi_heads/mask_head.py:MaskRCNNConvUpsampleHead``.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        deconv = nn.ConvTranspose2d(in_channels, MASK_CHANNELS, 2, stride=2)
        predictor = nn.Conv2d(MASK_CHANNELS, 1, 1)
        nn.init.kaiming_normal_(deconv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(predictor.weight, std=0.001)
        for layer in (deconv, predictor):
            nn.init.zeros_(layer.get_parameter("bias"))
        self.add_module("deconv", deconv)
        self.add_module("relu", nn.ReLU(inplace=True))
        self.add_module("predictor", predictor)


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
        self.box_regressor = _box_regressor(width) if config.box_regression else None
        self.mask_head = MaskHead(32 * config.encoder.width) if config.mask_head else None
        self.train_embeddings = _rows(config.num_train_classes, width)
        self.test_embeddings = _rows(config.num_test_classes, width)


def build(config: RegionClipConfig) -> RegionClip:
    """Build a detector with random weights, in ``eval`` mode, ready for a checkpoint."""
    return RegionClip(config).eval()


def add_detection_heads(
    model: RegionClip, class_embeddings: Float[Tensor, "C D"], *, with_masks: bool
) -> None:
    """Give a model, in place, what fine-tuning trains or trains against.

    A box regressor and, if wanted, a mask head get random weights where the model has none; its
    configuration tells of them.

    Args:
        model: Of any kind: pretrained, a plain CLIP, or fine-tuned before.
        class_embeddings: Its new ``train_embeddings``, in place of any it has.
        with_masks: Whether it needs a mask head.

    Raises:
        ValueError: The rows are not as wide as the model's regions.
    """
    width, device = model.config.encoder.embed_dim, model.encoder.device
    if class_embeddings.shape[1] != width:
        raise ValueError(
            f"class embeddings are {class_embeddings.shape[1]} numbers wide, regions of "
            f"{model.config.encoder.name} {width}; encode the names with this model's text tower"
        )
    if model.box_regressor is None:
        model.box_regressor = _box_regressor(width).to(device)
    if with_masks and model.mask_head is None:
        model.mask_head = MaskHead(32 * model.config.encoder.width).to(device)
    rows = class_embeddings.detach().to(device, torch.float32, copy=True)
    model.train_embeddings = nn.Parameter(rows, requires_grad=False)
    model.config = replace(
        model.config,
        box_regression=True,
        mask_head=model.mask_head is not None,
        num_train_classes=len(rows),
        # the list named the rows that are gone
        class_names=model.config.class_names if model.config.num_test_classes else "",
    )


def carry_classes(
    model: RegionClip, names: Sequence[str], class_embeddings: Float[Tensor, "C D"]
) -> None:
    """Let a model, in place, carry classes that it names when it is given none.

    Args:
        model: Gets ``class_embeddings`` as its ``test_embeddings``.
        names: One per row.
        class_embeddings: In the space of its regions.
    """
    rows = class_embeddings.detach().to(model.encoder.device, torch.float32, copy=True)
    model.test_embeddings = nn.Parameter(rows, requires_grad=False)
    model.config = replace(
        model.config, num_test_classes=len(rows), class_names="", own_class_names=tuple(names)
    )


def _box_regressor(width: int) -> nn.Linear:
    """Offsets near 0 at first; detectron2@e3ee0ab ``modeling/roi_heads/fast_rcnn.py``."""
    layer = nn.Linear(width, 4)
    nn.init.normal_(layer.weight, std=0.001)
    nn.init.zeros_(layer.bias)
    return layer


def _rows(num_classes: int, width: int) -> nn.Parameter | None:
    if num_classes == 0:
        return None
    return nn.Parameter(torch.zeros(num_classes, width), requires_grad=False)
