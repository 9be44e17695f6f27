"""A small Detic with random weights that takes milliseconds."""

import re
from typing import Any

import torch
from torch import Tensor, nn

from regionclip.detect import Detector
from regionclip.detections.select import SelectionOptions
from regionclip.encoders.text_tower import TextSpec
from regionclip.methods.detic.config import DeticConfig
from regionclip.methods.detic.model import Detic, build
from regionclip.proposals.rpn import RpnConfig, RpnSelection
from regionclip.structures import Detections, ImageSource

from .tiny_clip import randomize_norms

TINY_TEXT = TextSpec(
    # one head of 64 channels, which is what a file of these shapes is taken to have
    name="text-1x64",
    embed_dim=12,
    text_width=64,
    text_heads=1,
    text_layers=1,
    context_length=16,
    vocab_size=600,
)
TINY_DETIC = DeticConfig(
    rpn=RpnConfig(
        layers=(1, 1, 1),
        width=8,
        pyramid_channels=None,
        anchor_sizes=((8.0, 16.0, 32.0, 64.0, 128.0),),
        selection=RpnSelection(pre_nms_topk=100, post_nms_topk=20),
    ),
    region_blocks=1,
    text=TINY_TEXT,
    initial_bias=-2.0,
    templates="photo",
    shortest_side=64,
    longest_side=96,
    selection=SelectionOptions(min_score=0.0, max_detections=20),
)


def tiny_detic(config: DeticConfig = TINY_DETIC, *, seed: int = 0) -> Detic:
    """Random weights whose activations spread and whose boxes move, frozen."""
    torch.manual_seed(seed)
    model = build(config)
    randomize_norms(model)
    # inputs reach from -124 to 151
    model.proposer.backbone.get_buffer("bn1.running_var").mul_(1e4)
    nn.init.normal_(model.class_layer.weight, std=0.3)
    for layer in (model.proposer.head.cls_logits, model.box_layers[2]):
        nn.init.normal_(layer.get_parameter("weight"), std=0.1)
    return model.eval().requires_grad_(False)


def detect_one(
    detector: Detector, image: ImageSource, classes: Any = None, **given: Any
) -> Detections:
    """The detections of one image."""
    found = detector.detect(image, classes, **given)
    assert isinstance(found, Detections)
    return found


_ORIGINAL_NAMES = (
    (r"encoder\.clip\.(?!logit_scale)", "roi_head.clip.text_encoder."),
    (r"proposer\.backbone\.", "backbone."),
    (r"proposer\.head\.conv\.0\.0\.", "rpn_head.rpn_conv."),
    (r"proposer\.head\.cls_logits\.", "rpn_head.rpn_cls."),
    (r"proposer\.head\.bbox_pred\.", "rpn_head.rpn_reg."),
    (r"region_stage\.", "roi_head.shared_head.layer4."),
    (r"class_layer\.", "roi_head.bbox_head.fc_cls."),
    (r"box_layers\.", "roi_head.bbox_head.fc_reg."),
    (r"class_bias$", "roi_head.bbox_head.cls_bias"),
    (r"class_embeddings$", "roi_head.bbox_head.cls_embeddings"),
    (r"caption_bias$", "roi_head.detic_caption.bce_bias"),
    (r"tag_bias$", "roi_head.detic_tags.bce_bias"),
)


def original_state(model: Detic) -> dict[str, Tensor]:
    """A model's tensors under the original's names."""
    state = {
        "roi_head.bbox_head.bg_embedding": model.background[None],
        "roi_head.detic_tags.tag_embeddings": model.class_embeddings,
    }
    for name, tensor in model.state_dict().items():
        for ours, theirs in _ORIGINAL_NAMES:
            key, count = re.subn(f"^{ours}", theirs, name)
            if count:
                state[key] = tensor
    return state
