"""Seeded weights, pictures and boxes, for speed where released files are not at hand.

Speed does not depend on the values, except through the number of detections. Rounding does: the
scales are such that activations stay finite and spread through all layers.
"""

import torch
from torch import Tensor, nn

IMAGE_HW = (800, 1199)
"""A 4:3 photograph as RegionCLIP resizes it for a test."""


@torch.no_grad()
def fill(module: nn.Module, *, seed: int) -> nn.Module:
    """Give every parameter and statistic a seeded value of a sensible scale, in ``eval`` mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if not tensor.is_floating_point() or name.endswith(("attn_mask", "logit_scale")):
            continue
        leaf = name.rsplit(".", 1)[-1]
        if leaf == "running_var":
            tensor.uniform_(0.8, 1.2, generator=generator)
        elif leaf.endswith("bias") or leaf == "running_mean":
            tensor.normal_(0, 0.02, generator=generator)
        elif tensor.ndim == 1:
            # the last norm of a residual block is small, so that a deep sum stays bounded
            low, high = (0.2, 0.4) if "bn3" in name else (0.9, 1.1)
            tensor.uniform_(low, high, generator=generator)
        elif "embedding" in name:
            tensor.normal_(0, 0.05, generator=generator)
        else:
            gain = 2.0 if tensor.ndim == 4 else 1.0
            scale = (gain / tensor[0].numel()) ** 0.5
            tensor.normal_(0, scale, generator=generator)
    return module.eval()


def picture(height: int, width: int, *, seed: int) -> Tensor:
    """``(3, H, W)`` in [0, 1]: gradients, coloured rectangles and some noise."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.linspace(0, 1, height)[:, None].expand(height, width)
    columns = torch.linspace(0, 1, width)[None].expand(height, width)
    pixels = torch.stack([columns, rows, (rows + columns) / 2]) * 0.6
    for x0, y0, x1, y1 in random_boxes(40, height, width, seed=seed).long().tolist():
        color = torch.rand(3, 1, 1, generator=generator)
        pixels[:, y0:y1, x0:x1] = color
    noise = torch.randn(pixels.shape, generator=generator) * 0.03
    return (pixels + noise).clamp(0, 1)


def random_boxes(count: int, height: int, width: int, *, seed: int) -> Tensor:
    """``(count, 4)`` boxes inside an image, with sides from 2 to 90% of its sides."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([width, height])
    shares = torch.exp(torch.empty(count, 2).uniform_(-3.9, -0.1, generator=generator))
    corners = torch.rand(count, 2, generator=generator) * (1 - shares)
    return torch.cat([corners * size, (corners + shares) * size], dim=1)
