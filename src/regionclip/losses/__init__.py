"""What training minimises: captions to images, regions to names, anchors and queries to boxes."""

from .boxes import box_l1_loss
from .classification import focal_scaled_cross_entropy, weighted_cross_entropy
from .compositions import (
    CaptionLossOptions,
    TagLossOptions,
    caption_region_loss,
    tag_region_loss,
)
from .concepts import concept_contrastive_loss, concept_distillation_loss
from .contrastive import caption_contrastive_loss, image_text_loss
from .distillation import cosine_distillation_loss
from .loss_sum import LossSum
from .masks import mask_loss
from .queries import QueryLoss, query_loss
from .rpn import RpnLoss, RpnLossOptions, rpn_loss
from .sampled_classes import draw_classes, sampled_class_loss

__all__ = [
    "CaptionLossOptions",
    "LossSum",
    "QueryLoss",
    "RpnLoss",
    "RpnLossOptions",
    "TagLossOptions",
    "box_l1_loss",
    "caption_contrastive_loss",
    "caption_region_loss",
    "concept_contrastive_loss",
    "concept_distillation_loss",
    "cosine_distillation_loss",
    "draw_classes",
    "focal_scaled_cross_entropy",
    "image_text_loss",
    "mask_loss",
    "query_loss",
    "rpn_loss",
    "sampled_class_loss",
    "tag_region_loss",
    "weighted_cross_entropy",
]
