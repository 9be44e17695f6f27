"""Regions moved onto their objects: the loss of a box regressor."""

from jaxtyping import Float
from torch import Tensor

from regionclip.detections.box_coder import BoxWeights, encode_boxes

from .loss_sum import LossSum, counted


def box_l1_loss(
    deltas: Float[Tensor, "F 4"],
    regions: Float[Tensor, "F 4"],
    objects: Float[Tensor, "F 4"],
    *,
    num_sampled: int,
    weights: BoxWeights,
) -> LossSum:
    """Absolute differences between predicted and wanted offsets.

    Args:
        deltas: Predicted offsets of regions on objects.
        regions: ``xyxy``; what the offsets are from. With positive sides.
        objects: ``xyxy``; the object of each region.
        num_sampled: Sampled regions, background included: what the mean is over, so that an image
            with few objects does not learn them faster.
        weights: What offsets are multiplied by, see :func:`encode_boxes`.

    Returns:
        The sum over regions and their four offsets, and ``num_sampled``.

    Source:
        Fast R-CNN (arXiv:1504.08083), eq. 1 to 3, with smooth L1 sharpened to L1 (``beta`` 0) and
        the normaliser of detectron2@e3ee0ab ``detectron2/modeling/roi_heads/fast_rcnn.py``
        (``box_reg_loss``).
    """
    wanted = encode_boxes(objects, regions, weights=weights)
    return counted((deltas.float() - wanted).abs().sum(), num_sampled)
