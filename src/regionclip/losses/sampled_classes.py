"""Regions told apart from some of many classes: those that occur, and others drawn by chance."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from .loss_sum import LossSum, counted


def draw_classes(
    occurs: Bool[Tensor, " C"],
    *,
    count: int,
    generator: torch.Generator,
    weights: Float[Tensor, " C"] | None = None,
) -> Int[Tensor, " S"]:
    """Classes to compare with: all that occur, filled up with others to ``count``.

    Args:
        occurs: Whether a class is the label of a region, of whatever process.
        count: Classes in the end; more if more occur, fewer if there are no more.
        generator: On the CPU; draws the others.
        weights: How likely each class is drawn, in proportion to others; one of 0 never is.
            ``None``: each alike.

    Returns:
        Rising.

    Source:
        Federated loss: Probabilistic two-stage detection (arXiv:2103.07461), sec. 6.3, with the
        roots of the classes' numbers of images for weights; without weights wusize/CLIPSelf@1c7fe9c
        (``region_clip``).
    """
    present = occurs.cpu().nonzero()[:, 0]
    chances = None if weights is None else weights.detach().cpu().float()
    others = (~occurs.cpu() if chances is None else ~occurs.cpu() & (chances > 0)).nonzero()[:, 0]
    missing = min(max(count - len(present), 0), len(others))
    if chances is None:
        drawn = others[torch.randperm(len(others), generator=generator)[:missing]]
    elif missing:
        drawn = others[torch.multinomial(chances[others], missing, generator=generator)]
    else:
        drawn = others[:0]
    return torch.cat([present, drawn]).sort().values.to(occurs.device)


def sampled_class_loss(
    logits: Float[Tensor, "R S"], labels: Int[Tensor, " R"], sampled: Int[Tensor, " S"]
) -> LossSum:
    """Each region against some classes, each class by itself: binary cross-entropy.

    Args:
        logits: One column per sampled class.
        labels: Class of each region, which is among the sampled ones.
        sampled: From :func:`draw_classes`.

    Returns:
        The sum over regions and classes, and the number of regions.

    Source:
        The pseudo-label baseline of CLIPSelf (arXiv:2310.01403, "RegionCLIP" in tables 4 and 5);
        wusize/CLIPSelf@1c7fe9c (``region_clip``): a sum over classes, a mean over regions, no bias.
    """
    targets = (labels[:, None] == sampled[None]).float()
    losses = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="sum")
    return counted(losses, len(logits))
