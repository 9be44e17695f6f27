"""An EVA-02 CLIP of a few thousand parameters, and its file as EVA-CLIP would write it."""

import torch
from torch import Tensor, nn

from regionclip.encoders.eva import EvaClip, EvaClipSpec

TINY_EVA = EvaClipSpec(
    name="tiny-eva",
    embed_dim=10,
    image_size=32,
    patch_size=8,
    width=16,
    layers=3,
    head_width=8,
    text_width=64,
    text_heads=1,
    text_layers=1,
    context_length=16,
    vocab_size=600,
)


def tiny_eva(seed: int = 0, spec: EvaClipSpec = TINY_EVA) -> EvaClip:
    """Random weights that matter, in ``eval`` mode, without gradients."""
    torch.manual_seed(seed)
    encoder = EvaClip(spec).eval().requires_grad_(False)
    for parameter in encoder.trunk.parameters():
        # of size one on the average of many inputs, biases and positions too
        scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.3
        nn.init.normal_(parameter, std=scale)
    return encoder


def eva_file(encoder: EvaClip) -> dict[str, Tensor]:
    """The tensors by EVA-CLIP's names, with tables of rotations as training leaves them."""
    renames = (
        (".attn.q_proj.bias", ".attn.q_bias"),
        (".attn.v_proj.bias", ".attn.v_bias"),
        (".attn.norm.", ".attn.inner_attn_ln."),
        (".mlp.fc1_g.", ".mlp.w1."),
        (".mlp.fc1_x.", ".mlp.w2."),
        (".mlp.norm.", ".mlp.ffn_ln."),
        (".mlp.fc2.", ".mlp.w3."),
    )
    state = {}
    for name, tensor in encoder.clip.state_dict().items():
        for ours, theirs in renames:
            name = name.replace(ours, theirs)
        is_text = not name.startswith(("visual.", "logit_scale"))
        state[f"text.{name}" if is_text else name] = tensor
    for place in ("visual.rope", "visual.blocks.0.attn.rope", "visual.blocks.1.attn.rope"):
        state |= {f"{place}.freqs_{each}": torch.ones(16, 8) for each in ("cos", "sin")}
    return state
