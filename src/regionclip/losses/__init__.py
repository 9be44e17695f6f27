"""What training minimises: captions to images, regions to class names, anchors to boxes."""

from .contrastive import caption_contrastive_loss
from .region_text import region_text_loss
from .rpn import RpnLoss, rpn_loss

__all__ = ["RpnLoss", "caption_contrastive_loss", "region_text_loss", "rpn_loss"]
