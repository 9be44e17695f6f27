"""A detector on a small frozen CLIP with random weights that takes milliseconds."""

from typing import Any

import torch
from torch import nn

from regionclip.detect import Detector
from regionclip.detections.select import SelectionOptions
from regionclip.methods.fvit.config import FvitConfig
from regionclip.methods.fvit.model import Fvit, build
from regionclip.proposals.rpn import RpnSelection
from regionclip.structures import Detections, ImageSource

from .tiny_clip import TINY, randomize_norms

TINY_FVLM = FvitConfig(
    resnet=TINY,
    channels=8,
    head_width=16,
    projection=True,
    background="learned",
    mask_head=True,
    base_classes="",
    own_base_classes=("cat", "dog"),
    image_size=128,
    templates="photo",
    proposals=RpnSelection(pre_nms_topk=50, post_nms_topk=30),
    selection=SelectionOptions(min_score=0.0, max_detections=20),
)


def tiny_fvit(config: FvitConfig = TINY_FVLM, *, seed: int = 0) -> Fvit:
    """Random weights whose activations spread and whose boxes move, frozen."""
    torch.manual_seed(seed)
    model = build(config)
    randomize_norms(model)
    for layer in (model.rpn_head.cls_logits, model.rpn_head.bbox_pred, model.box_head.box_offsets):
        nn.init.normal_(layer.get_parameter("weight"), std=0.1)
    return model.eval().requires_grad_(False)


def detect_one(
    detector: Detector, image: ImageSource, classes: Any = None, **given: Any
) -> Detections:
    """The detections of one image."""
    found = detector.detect(image, classes, **given)
    assert isinstance(found, Detections)
    return found
