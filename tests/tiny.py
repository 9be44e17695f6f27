"""A RegionCLIP with random weights that takes milliseconds, for tests of the whole way."""

import torch
from torch import nn

from regionclip.detections.select import SelectionOptions
from regionclip.methods.regionclip.config import RegionClipConfig
from regionclip.methods.regionclip.model import RegionClip, build
from regionclip.proposals.rpn import RpnConfig, RpnSelection

from .tiny_clip import TINY, randomize_norms

TINY_RPN = RpnConfig(
    layers=(1, 1, 1),
    width=4,
    pyramid_channels=None,
    anchor_sizes=((16.0, 32.0),),
    selection=RpnSelection(pre_nms_topk=200, post_nms_topk=40),
)
TINY_CONFIG = RegionClipConfig(
    encoder=TINY,
    rpn=TINY_RPN,
    shortest_side=96,
    longest_side=160,
    selection=SelectionOptions(min_score=0.01, max_detections=20),
)


def tiny_model(config: RegionClipConfig = TINY_CONFIG, *, seed: int = 0) -> RegionClip:
    """Random weights whose activations spread, batch norms included."""
    torch.manual_seed(seed)
    model = build(config)
    randomize_norms(model)
    if model.proposer is not None:
        nn.init.normal_(model.proposer.head.cls_logits.weight, std=0.5)
    for rows in (model.train_embeddings, model.test_embeddings):
        if rows is not None:
            nn.init.normal_(rows)
    return model.eval()
