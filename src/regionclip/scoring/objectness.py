"""Class scores and class-free objectness as one score."""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

ObjectnessFusion = Literal["none", "geometric", "product", "raw"]
"""How objectness enters a score.

- ``none``: not at all.
- ``geometric``: ``sqrt(p * sigmoid(logit))``, in [0, 1]: the geometric mean of two probabilities.
- ``product``: ``p * sigmoid(logit)``, in [0, 1]: CORA's.
- ``raw``: ``sqrt(p * logit)``, RegionCLIP's. It may exceed 1, and a region whose logit is not
  positive has no detection.
"""


def fuse_objectness(
    class_scores: Float[Tensor, "R C"],
    objectness: Float[Tensor, " R"] | None,
    fusion: ObjectnessFusion,
) -> Float[Tensor, "R C"]:
    """Weigh each region's class scores with its objectness.

    Args:
        class_scores: In [0, 1].
        objectness: Logits; may be absent if ``fusion`` is ``none``.
        fusion: The formula.

    Returns:
        Scores that order the detections; 0 where ``raw`` allows none.

    Raises:
        ValueError: ``fusion`` is unknown, or needs an objectness and there is none.

    Source:
        microsoft/RegionCLIP@4b8513b ``detectron2/modeling/roi_heads/fast_rcnn.py``
        (``MULTIPLY_RPN_SCORE``): the square root of a negative number is undefined there, and such
        rows are dropped later. ``product``: CORA (arXiv:2303.13076), tgxs002/CORA@c334a6d, which
        keeps scores 1e-5 from 0 and 1: of no effect but among boxes that are as good as certain.
    """
    if fusion == "none":
        return class_scores
    if objectness is None:
        raise ValueError(
            f"objectness fusion {fusion!r} needs proposals with an objectness, and these have "
            "none (boxes that somebody gave); use 'none'"
        )
    weighted = class_scores * _weights(objectness, fusion)[:, None]
    return weighted if fusion == "product" else weighted.sqrt()


def score_bound(objectness: Float[Tensor, " R"], fusion: ObjectnessFusion) -> Float[Tensor, " R"]:
    """The highest score that :func:`fuse_objectness` gives each region, whatever its class scores.

    It grows with the logit, so a list sorted by objectness is sorted by this.

    Raises:
        ValueError: ``fusion`` is unknown.
    """
    if fusion == "none":
        return torch.ones_like(objectness)
    weights = _weights(objectness, fusion)
    return weights if fusion == "product" else weights.sqrt()


def _weights(objectness: Tensor, fusion: ObjectnessFusion) -> Tensor:
    """What a class score is multiplied by, perhaps under a root, not negative."""
    if fusion in ("geometric", "product"):
        return objectness.sigmoid()
    if fusion == "raw":
        return objectness.clamp(min=0)
    known = ", ".join(get_args(ObjectnessFusion))
    raise ValueError(f"unknown objectness fusion {fusion!r}; expected one of {known}")
