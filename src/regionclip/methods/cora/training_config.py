"""What training of the localiser minimises; see ``learner.py``."""

from dataclasses import dataclass, field
from typing import Literal

from regionclip.pairs import MatchingCosts


@dataclass(frozen=True, kw_only=True, slots=True)
class CoraTraining:
    """How the localiser learns.

    Numbers are of tgxs002/CORA@c334a6d ``main.py`` and ``configs/COCO/R50_*.sh``.
    """

    objectness_weight: float = 2.0
    """Of the focal loss (``--cls_loss_coef``)."""
    box_weight: float = 5.0
    """Of the L1 distance (``--bbox_loss_coef``)."""
    giou_weight: float = 2.0
    """Of the generalized IoU (``--giou_loss_coef``)."""
    matching: MatchingCosts = field(default_factory=MatchingCosts)
    """What a pair of query and object costs; the original's weights are those of the losses."""
    split_share: float = 0.2
    """Fraction of the steps in which every image is seen twice, each time with half of the class
    embeddings set to zero, so that anchors also look for what is not the likeliest
    (``--split_class_p``)."""
    split_period: int | None = None
    """Steps after which the same ones are split again; an epoch in the original. ``None``: the
    steps of the whole run are numbered through."""
    box_heads_averaged: Literal["once", "twice"] = "once"
    """How often a step's box heads enter their moving average. The original's state dict has them
    under two names, and they enter ``twice``: the average follows them twice as fast."""

    def __post_init__(self) -> None:
        for name in ("objectness_weight", "box_weight", "giou_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.split_share <= 1:
            raise ValueError(f"split_share must be in [0, 1], got {self.split_share}")
        if self.split_period is not None and self.split_period < 1:
            raise ValueError(f"split_period must be at least 1, got {self.split_period}")

    @property
    def averaged_twice(self) -> tuple[str, ...]:
        """Beginnings of the names of the learner's parameters that enter averages twice."""
        return ("model.decoder.box_heads.",) if self.box_heads_averaged == "twice" else ()
