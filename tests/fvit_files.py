"""A detector on a small frozen CLIP with random weights that takes milliseconds."""

import re
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from regionclip.detect import Detector
from regionclip.detections.select import SelectionOptions
from regionclip.methods.fvit.config import FvitConfig
from regionclip.methods.fvit.model import Fvit, build
from regionclip.proposals.rpn import RpnSelection
from regionclip.structures import Detections, ImageSource

from . import tiny_dense, tiny_eva
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


# the pyramid takes maps of four of twelve blocks
TINY_VIT = replace(tiny_dense.TINY_VIT, embed_dim=12, layers=12)
TINY_EVA = replace(tiny_eva.TINY_EVA, embed_dim=12, layers=12, text_width=16, text_heads=2)
TINY_FVIT = replace(
    TINY_FVLM,
    resnet=None,
    vit=TINY_VIT,
    head_width=12,
    projection=False,
    background="text",
    rpn_norm=True,
)


def original_state(model: Fvit) -> dict[str, Tensor]:
    """A model's tensors under the original's names, F-ViT's or F-VLM's."""
    is_fvit, head = model.box_head.projection is None, "roi_head.bbox_head."
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        key = _original_name(name)
        if key is not None:
            state[key] = tensor
    rows, background = model.class_embeddings, model.background.detach()
    if not is_fvit:
        weight = torch.randn(len(background), 1)
        return state | {
            head + "cls_embeddings": rows,
            head + "bg_embedding.weight": weight,
            head + "bg_embedding.bias": background - weight[:, 0],
            head + "cls_temp": state.pop(head + "detect_temperature"),
        }
    return state | {
        head + "all_embeddings": torch.cat([rows, background[None]]).T.contiguous(),
        head + "fc_cls.weight": torch.zeros(len(rows) + 1, 12),
        head + "fc_cls.bias": torch.zeros(len(rows) + 1),
    }


def _original_name(name: str) -> str | None:
    for ours, theirs in _ORIGINAL_NAMES:
        key, count = re.subn(f"^{ours}", theirs, name)
        if count:
            return key
    return None


_ORIGINAL_NAMES = (
    (r"encoder\.clip\.visual\.", "backbone.visual."),
    (r"scales\.finest\.", "backbone.interpolate1."),
    (r"scales\.finer\.", "backbone.interpolate2."),
    (r"neck\.pyramid\.inner_blocks\.(\d)\.0\.", r"neck.lateral_convs.\1.conv."),
    (r"neck\.pyramid\.inner_blocks\.(\d)\.1\.", r"neck.lateral_convs.\1.bn."),
    (r"neck\.pyramid\.layer_blocks\.(\d)\.0\.", r"neck.fpn_convs.\1.conv."),
    (r"neck\.pyramid\.layer_blocks\.(\d)\.1\.", r"neck.fpn_convs.\1.bn."),
    (r"rpn_head\.conv\.(\d)\.0\.", r"rpn_head.rpn_conv.\1.conv."),
    (r"rpn_head\.conv\.(\d)\.1\.", r"rpn_head.rpn_conv.\1.bn."),
    (r"rpn_head\.cls_logits\.", "rpn_head.rpn_cls."),
    (r"rpn_head\.bbox_pred\.", "rpn_head.rpn_reg."),
    (r"box_head\.convs\.(\d)\.0\.", r"roi_head.bbox_head.shared_convs.\1.conv."),
    (r"box_head\.convs\.(\d)\.1\.", r"roi_head.bbox_head.shared_convs.\1.bn."),
    (r"box_head\.shared\.(\d)\.", r"roi_head.bbox_head.shared_fcs.\1."),
    (r"box_head\.class_layer\.", "roi_head.bbox_head.cls_fcs.0."),
    (r"box_head\.projection\.", "roi_head.bbox_head.fc_cls."),
    (r"box_head\.box_layer\.", "roi_head.bbox_head.reg_fcs.0."),
    (r"box_head\.box_offsets\.", "roi_head.bbox_head.fc_reg."),
    (r"box_head\.similarity_scale$", "roi_head.bbox_head.detect_temperature"),
    (r"mask_head\.convs\.(\d)\.0\.", r"roi_head.mask_head.convs.\1.conv."),
    (r"mask_head\.convs\.(\d)\.1\.", r"roi_head.mask_head.convs.\1.bn."),
    (r"mask_head\.upsample\.", "roi_head.mask_head.upsample."),
    (r"mask_head\.predictor\.", "roi_head.mask_head.conv_logits."),
)
