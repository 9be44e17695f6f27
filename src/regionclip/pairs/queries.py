"""A detector's queries paired one to one with objects of their image, within classes."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou

UNMATCHED_COST = 99.0
"""What a pair costs that must not be matched; pairs of this cost or more are dropped.

Source: tgxs002/CORA@c334a6d ``models/matcher.py`` (``remove_misclassified``).
"""
FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
"""Lin et al., Focal loss (arXiv:1708.02002), sec. 4.1."""
_MIN_PROBABILITY = 1e-8


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchingCosts:
    """Weights of what a pair of query and object costs.

    Source:
        DETR (arXiv:2005.12872), sec. 3.1, with the focal cost of Deformable DETR
        (arXiv:2010.04159); tgxs002/CORA@c334a6d ``main.py`` (``--set_cost_*``).
    """

    objectness: float = 2.0
    boxes: float = 5.0
    giou: float = 2.0

    def __post_init__(self) -> None:
        for name in ("objectness", "boxes", "giou"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class QueryMatches:
    """Queries of one image, and the object that each is to find; no object occurs twice.

    Attributes:
        query_index: Rising.
        target_index: As many.
    """

    query_index: Int[Tensor, " M"]
    target_index: Int[Tensor, " M"]

    def __len__(self) -> int:
        return int(self.query_index.shape[0])


@torch.no_grad()
def match_queries(
    boxes_cxcywh: Float[Tensor, "L Q 4"],
    objectness: Float[Tensor, "L Q"],
    query_labels: Int[Tensor, " Q"],
    target_boxes_cxcywh: Float[Tensor, "N 4"],
    target_labels: Int[Tensor, " N"],
    *,
    costs: MatchingCosts,
) -> list[QueryMatches]:
    """Find, for each decoder layer, the cheapest pairs of queries and objects of one class.

    An object that no query of its class overlaps stays without one, and so may an object whose
    class has more objects than queries.

    Args:
        boxes_cxcywh: Of the queries of one image in every layer, in units of the image's sides.
        objectness: Logits.
        query_labels: The class that each query asks for, in all layers.
        target_boxes_cxcywh: Of the objects, in the same units; none is fine.
        target_labels: Their classes.
        costs: What a pair costs.

    Returns:
        One per layer, on the device of the boxes.

    Source:
        CORA (arXiv:2303.13076), sec. 3.3, anchor pre-matching; tgxs002/CORA@c334a6d
        ``models/matcher.py``. An object is overlapped where the generalized IoU is above 0.
    """
    overlaps = _generalized_ious(boxes_cxcywh, target_boxes_cxcywh)
    cost = pair_costs(
        boxes_cxcywh, objectness, target_boxes_cxcywh, generalized_ious=overlaps, costs=costs
    )
    is_allowed = allowed_pairs(overlaps, query_labels[:, None] == target_labels[None, :])
    cost = cost.masked_fill(~is_allowed, UNMATCHED_COST)
    # after a step that diverged nothing is matched, and the loss, no number, says so
    cost = cost.nan_to_num(nan=UNMATCHED_COST)
    matches = []
    for layer in cost.cpu():
        rows, columns = linear_sum_assignment(layer.numpy())
        query, target = torch.from_numpy(rows), torch.from_numpy(columns)
        is_kept = layer[query, target] < UNMATCHED_COST
        device = boxes_cxcywh.device
        matches.append(QueryMatches(query[is_kept].to(device), target[is_kept].to(device)))
    return matches


def allowed_pairs(
    generalized_ious: Float[Tensor, "L Q N"], is_same_class: Bool[Tensor, "Q N"]
) -> Bool[Tensor, "L Q N"]:
    """Pairs of one class, for objects that some query of their class overlaps in that layer."""
    is_usable = ((generalized_ious > 0) & is_same_class).any(dim=1, keepdim=True)
    return is_same_class & is_usable


def pair_costs(
    boxes_cxcywh: Float[Tensor, "L Q 4"],
    objectness: Float[Tensor, "L Q"],
    target_boxes_cxcywh: Float[Tensor, "N 4"],
    *,
    generalized_ious: Float[Tensor, "L Q N"],
    costs: MatchingCosts,
) -> Float[Tensor, "L Q N"]:
    """What every pair costs, whatever its classes: the lower, the better.

    The part of objectness is how much the focal loss changes if the query is to be an object.
    """
    probability = objectness.float().sigmoid()
    to_be_none = (
        (1 - FOCAL_ALPHA) * probability**FOCAL_GAMMA * -(1 - probability + _MIN_PROBABILITY).log()
    )
    to_be_one = (
        FOCAL_ALPHA * (1 - probability) ** FOCAL_GAMMA * -(probability + _MIN_PROBABILITY).log()
    )
    distance = torch.cdist(boxes_cxcywh.float(), target_boxes_cxcywh.float(), p=1)
    found = costs.objectness * (to_be_one - to_be_none)[:, :, None]
    return costs.boxes * distance + found - costs.giou * generalized_ious


def _generalized_ious(boxes: Tensor, targets: Tensor) -> Tensor:
    """``(L, Q, N)``."""
    layers, queries = boxes.shape[:2]
    corners = box_convert(boxes.float().flatten(0, 1), "cxcywh", "xyxy")
    wanted = box_convert(targets.float(), "cxcywh", "xyxy")
    return generalized_box_iou(corners, wanted).view(layers, queries, len(targets))
