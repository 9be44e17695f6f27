"""A CORA with random weights that takes milliseconds, and its files in the original's form."""

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from regionclip.detections.select import SelectionOptions
from regionclip.methods.cora.config import CoraConfig
from regionclip.methods.cora.model import Cora, build

from .tiny_clip import TINY, randomize_norms

# the original's text towers have heads of 64 channels, and shapes tell no other number
SPEC = replace(TINY, name="RN-1-1-1-2-w8", text_width=64, text_heads=1)
TINY_CORA = CoraConfig(
    encoder=SPEC,
    num_queries=40,
    width=32,
    feedforward=48,
    encoder_layers=2,
    decoder_layers=3,
    text_bottleneck=16,
    text_length=8,
    base_classes="",
    own_base_classes=("cat", "dog"),
    shortest_side=96,
    longest_side=160,
    selection=SelectionOptions(min_score=0.001, nms_boxes="whole", max_detections=20),
)
_ENCODER_LAYER = {
    "attention.": "self_attn.",
    "attention_norm.": "norm1.",
    "feedforward.expand.": "linear1.",
    "feedforward.activation.": "activation.",
    "feedforward.contract.": "linear2.",
    "feedforward_norm.": "norm2.",
}
_DECODER_LAYER = {
    "self_attention.query_content.": "sa_qcontent_proj.",
    "self_attention.query_position.": "sa_qpos_proj.",
    "self_attention.key_content.": "sa_kcontent_proj.",
    "self_attention.key_position.": "sa_kpos_proj.",
    "self_attention.value.": "sa_v_proj.",
    "self_attention.out.": "self_attn.out_proj.",
    "self_norm.": "norm1.",
    "cross_attention.query_content.": "ca_qcontent_proj.",
    "cross_attention.query_position.": "ca_qpos_proj.",
    "cross_attention.query_sine.": "ca_qpos_sine_proj.",
    "cross_attention.key_content.": "ca_kcontent_proj.",
    "cross_attention.key_position.": "ca_kpos_proj.",
    "cross_attention.value.": "ca_v_proj.",
    "cross_attention.out.": "cross_attn.out_proj.",
    "cross_norm.": "norm2.",
    "feedforward_norm.": "norm3.",
}
_BEGINNINGS = {
    "encoder.clip.visual.attnpool.": ("backbone.0.attn_pool.",),
    "encoder.clip.visual.layer4.": ("backbone.0.body.layer4.", "backbone.0.layer4."),
    "encoder.clip.visual.": ("backbone.0.body.",),
    "encoder.clip.": ("classifier.",),
    "decoder.box_heads.": ("transformer.decoder.bbox_embed.", "bbox_embed."),
    "map_encoder.": ("transformer.encoder.",),
    "decoder.": ("transformer.decoder.",),
    "anchors": ("query_embed.weight",),
    "input_proj.": ("input_proj.0.0.",),
    "text_proj.": ("text_proj.",),
    "objectness.": ("objectness_embed.",),
}


def tiny_cora(config: CoraConfig = TINY_CORA, *, seed: int = 0) -> Cora:
    """Random weights whose activations spread and whose boxes move, frozen."""
    torch.manual_seed(seed)
    model = build(config)
    randomize_norms(model)
    nn.init.normal_(model.region_prompt, std=0.2)
    for head in model.decoder.box_heads:
        nn.init.normal_(head.get_submodule("layers.2").get_parameter("weight"), std=0.1)
    nn.init.normal_(model.objectness.weight, std=0.3)
    return model.eval().requires_grad_(False)


def original_keys(name: str) -> tuple[str, ...]:
    """What a tensor of ours is called in the original's files; nothing if it is not there."""
    if name.endswith(("num_batches_tracked", "logit_scale")):
        return ()
    ours = next(beginning for beginning in _BEGINNINGS if name.startswith(beginning))
    rest = name.removeprefix(ours)
    if ours in ("map_encoder.", "decoder.") and rest.startswith("layers."):
        _, number, part = rest.split(".", 2)
        table = _ENCODER_LAYER if ours == "map_encoder." else _ENCODER_LAYER | _DECODER_LAYER
        part = next((new + part.removeprefix(o) for o, new in table.items() if part.startswith(o)))
        rest = f"layers.{number}.{part}"
    return tuple(beginning + rest for beginning in _BEGINNINGS[ours])


def original_state(model: Cora) -> dict[str, Tensor]:
    """A model's tensors under the original's names, some of them under two."""
    return {
        key: tensor for name, tensor in model.state_dict().items() for key in original_keys(name)
    }


def save_original(
    path: Path,
    state: Mapping[str, Tensor],
    *,
    averaged: Mapping[str, Tensor] | int = -1,
    dataset_file: str = "coco",
) -> Path:
    """Write a checkpoint as the original's training does."""
    content = {
        "model": dict(state),
        "optimizer": {"state": {}, "param_groups": []},
        "lr_scheduler": {"last_epoch": 3},
        "epoch": 3,
        "args": Namespace(backbone="clip_RN50", lr=1e-4, resume="", dataset_file=dataset_file),
        "best_performance": 35.1,
        "model_ema": averaged,
    }
    torch.save(content, path)
    return path


def class_rows(num_classes: int, *, seed: int = 0) -> Tensor:
    """Class embeddings in the tiny model's space."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_classes, SPEC.embed_dim, generator=generator)


def telling_rows(model: Cora, num_classes: int) -> Tensor:
    """Class embeddings between which anchors differ: an untrained tower's vectors are parallel."""
    maps = model.maps([picture(), picture(seed=1)])
    features = model.anchor_features(maps).flatten(0, 1)
    common = nn.functional.normalize(features.mean(dim=0), dim=0)
    rows = features - (features @ common)[:, None] * common
    return rows[:: len(rows) // num_classes][:num_classes]


def picture(height: int = 96, width: int = 128, *, seed: int = 0) -> Tensor:
    """``(3, H, W)`` in [0, 1] with coarse blocks of colour."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.rand(1, 3, height // 16 + 1, width // 16 + 1, generator=generator)
    return nn.functional.interpolate(blocks, (height, width), mode="bilinear")[0]
