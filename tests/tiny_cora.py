"""A CORA with random weights that takes milliseconds, for tests of what is around it."""

import torch
from torch import nn

from regionclip.methods.cora.config import CoraConfig
from regionclip.methods.cora.model import Cora, build

from .tiny_clip import TINY, randomize_norms

TINY_CORA = CoraConfig(
    encoder=TINY,
    num_queries=30,
    width=16,
    heads=2,
    feedforward=24,
    encoder_layers=1,
    decoder_layers=3,
    dropout=0.0,
    text_bottleneck=8,
    text_length=12,
    templates="photo",
    base_classes="",
    shortest_side=96,
    longest_side=160,
)


def tiny_cora(config: CoraConfig = TINY_CORA, *, seed: int = 0) -> Cora:
    """Random weights, batch norms included; boxes move and queries differ."""
    torch.manual_seed(seed)
    model = build(config)
    randomize_norms(model.encoder)
    nn.init.normal_(model.region_prompt, std=0.2)
    for head in model.decoder.box_heads:
        nn.init.normal_(head.get_submodule("layers.2").get_parameter("weight"), std=0.2)
    return model
