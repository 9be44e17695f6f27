"""A Detic with a cascade and random weights that takes milliseconds."""

import re

import torch
from torch import Tensor, nn

from regionclip.detections.select import SelectionOptions
from regionclip.encoders.text_tower import TextSpec
from regionclip.methods.detic.cascade_config import CascadeConfig
from regionclip.methods.detic.cascade_model import CascadeDetic, build_cascade
from regionclip.methods.detic.cascade_weights import ROWS
from regionclip.proposals.centernet import CenterSelection

from .tiny_clip import randomize_norms

TINY_CASCADE = CascadeConfig(
    layers=(1, 1, 1, 1),
    width=4,
    channels=64,
    head_width=16,
    text=TextSpec(
        name="text-2x64",
        embed_dim=12,
        text_width=64,
        text_heads=1,
        text_layers=2,
        context_length=16,
        vocab_size=600,
    ),
    shortest_side=96,
    longest_side=128,
    proposals=CenterSelection(pre_nms_topk=60, post_nms_topk=30),
    selection=SelectionOptions(min_score=0.0, max_detections=20),
)


def tiny_cascade(config: CascadeConfig = TINY_CASCADE, *, seed: int = 0) -> CascadeDetic:
    """Random weights whose activations spread and whose boxes move, frozen."""
    torch.manual_seed(seed)
    model = build_cascade(config)
    randomize_norms(model)
    for layer in (model.center_head.heatmap, model.center_head.distances):
        nn.init.normal_(layer.weight, std=0.1)
    for stage in model.stages:
        nn.init.normal_(stage.get_parameter("box_layers.2.weight"), std=0.3)
    return model.eval().requires_grad_(False)


def original_cascade_state(model: CascadeDetic) -> dict[str, Tensor]:
    """A model's tensors under the original's names, with what only training needs."""
    state = {_original_name(name): each for name, each in model.state_dict().items()}
    rows = state.pop("class_embeddings")
    del state["roi_head.clip.text_encoder.logit_scale"]
    columns = torch.cat([rows, rows.new_zeros(1, rows.shape[1])]).T.contiguous()
    counts = {f"roi_head.bbox_head.{stage}.freq_weight": rows[:, 0] for stage in range(3)}
    return (
        state | dict.fromkeys(ROWS, columns) | counts | {"roi_head.detic_tags.tag_embeddings": rows}
    )


def _original_name(name: str) -> str:
    for ours, theirs in _ORIGINAL_NAMES:
        key, count = re.subn(f"^{ours}", theirs, name)
        if count:
            return key
    return name


_ORIGINAL_NAMES = (
    (r"encoder\.clip\.", "roi_head.clip.text_encoder."),
    (r"pyramid\.inner_blocks\.(\d)\.0\.", r"neck.lateral_convs.\1.conv."),
    (r"pyramid\.layer_blocks\.(\d)\.0\.", r"neck.fpn_convs.\1.conv."),
    (r"pyramid\.extra_blocks\.p6\.", "neck.fpn_convs.3.conv."),
    (r"pyramid\.extra_blocks\.p7\.", "neck.fpn_convs.4.conv."),
    (r"center_head\.convs\.(\d)\.0\.", r"rpn_head.reg_convs.\1.conv."),
    (r"center_head\.convs\.(\d)\.1\.", r"rpn_head.reg_convs.\1.gn."),
    (r"center_head\.heatmap\.", "rpn_head.conv_cls."),
    (r"center_head\.distances\.", "rpn_head.conv_reg."),
    (r"center_head\.scales\.(\d)$", r"rpn_head.scales.\1.scale"),
    (r"stages\.(\d)\.shared\.", r"roi_head.bbox_head.\1.shared_fcs."),
    (r"stages\.(\d)\.projection\.", r"roi_head.bbox_head.\1.fc_cls.linear."),
    (r"stages\.(\d)\.box_layers\.", r"roi_head.bbox_head.\1.fc_reg."),
    (r"mask_head\.convs\.(\d)\.0\.", r"roi_head.mask_head.convs.\1.conv."),
    (r"mask_head\.upsample\.", "roi_head.mask_head.upsample."),
    (r"mask_head\.predictor\.", "roi_head.mask_head.conv_logits."),
)
