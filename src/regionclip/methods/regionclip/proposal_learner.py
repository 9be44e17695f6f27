"""Training of a localiser: boxes without names, to a network that proposes where objects are."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from regionclip.data.transforms import rows_by_size
from regionclip.losses import LossSum, RpnLossOptions, rpn_loss
from regionclip.losses.loss_sum import summed
from regionclip.pairs import random_permutation
from regionclip.proposals.rpn import RegionProposalNetwork
from regionclip.structures import DetectionBatch


@dataclass(frozen=True, kw_only=True, slots=True)
class RpnTraining:
    """What of a proposal network moves, and by which loss.

    Defaults are for a backbone that was trained before, as detectron2@e3ee0ab
    ``configs/Base-RCNN-FPN.yaml`` trains on ImageNet's; one with random weights has to be trained
    whole: ``freeze_at=0, norms="trained"``.
    """

    freeze_at: int = 2
    """How many of the backbone's stem, layer1, layer2, ... stay as they are, from the first on
    (``BACKBONE.FREEZE_AT``)."""
    norms: Literal["frozen", "trained"] = "frozen"
    """``frozen``: statistics and weights of batch norms stay (``RESNETS.NORM`` "FrozenBN").
    ``trained``: they follow the batch, so that an image's loss depends on the images beside it."""
    loss: RpnLossOptions = field(default_factory=RpnLossOptions)

    def __post_init__(self) -> None:
        if self.freeze_at < 0:
            raise ValueError(f"freeze_at must not be negative, got {self.freeze_at}")


class RpnLearner(nn.Module):
    """Learns a proposal network from boxes of any data set; their labels are not looked at.

    Attributes:
        proposer: The network, shared.
    """

    def __init__(self, proposer: RegionProposalNetwork, config: RpnTraining) -> None:
        """Freeze what stays as it is."""
        super().__init__()
        self.proposer = proposer
        self.config = config
        proposer.requires_grad_(True)
        for name, parameter in proposer.backbone.named_parameters():
            parameter.requires_grad_(_stage(name) >= config.freeze_at)
        for norm in self._constant_norms():
            norm.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "RpnLearner":
        """Leave frozen norms in ``eval`` mode."""
        super().train(mode)
        for norm in self._constant_norms():
            norm.eval()
        return self

    def forward(self, batch: DetectionBatch) -> dict[str, LossSum]:
        """Losses by name: ``objectness`` and ``boxes``.

        Images of one size go through the network together, others on their own: padding beside a
        larger image would change what is learned near the border.
        """
        device = next(self.proposer.parameters()).device
        sizes = [(int(image.shape[1]), int(image.shape[2])) for image in batch.images]
        objectness, boxes = [], []
        for rows in rows_by_size(sizes):
            levels = self.proposer(self.proposer.prepare([batch.images[row] for row in rows]))
            loss = rpn_loss(
                torch.cat([level.logits for level in levels], dim=1),
                torch.cat([level.deltas for level in levels], dim=1),
                torch.cat([level.anchors for level in levels]),
                [batch.targets[row].boxes.to(device) for row in rows],
                permutations=[random_permutation(batch.seeds[row]) for row in rows],
                options=self.config.loss,
            )
            objectness.append(loss.objectness)
            boxes.append(loss.boxes)
        return {"objectness": summed(objectness), "boxes": summed(boxes)}

    def _constant_norms(self) -> list[nn.BatchNorm2d]:
        """All norms, or those of the frozen stages."""
        config, modules = self.config, dict(self.proposer.named_modules())
        is_constant = {
            name: config.norms == "frozen"
            or (name.startswith("backbone.") and _stage(name[9:]) < config.freeze_at)
            for name in modules
        }
        return [
            module
            for name, module in modules.items()
            if isinstance(module, nn.BatchNorm2d) and is_constant[name]
        ]


def _stage(name: str) -> int:
    """Of a parameter of a backbone: 0 for the stem, then the number of its layer."""
    part = name.split(".")[0]
    return int(part.removeprefix("layer")) if part.startswith("layer") else 0
