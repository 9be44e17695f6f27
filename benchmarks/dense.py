"""Our dense map and its regions against the same mathematics written plainly, ViT-B/16."""

from collections.abc import Callable
from functools import partial

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

from regionclip.encoders.vit import VIT_SPECS, ClipVit
from regionclip.encoders.vit_blocks import blocks_of, embed_patches
from regionclip.regions.dense_regions import pool_boxes

from .measure import Report, interleaved, peak_megabytes
from .stand_ins import fill, picture, random_boxes


def run(*, side: int, num_regions: int, repeats: int, device: torch.device) -> Report:
    """A square image of ``side`` pixels: its dense map, then vectors of random boxes."""
    encoder = ClipVit(VIT_SPECS["ViT-B-16"])
    fill(encoder, seed=0).to(device)
    image = (picture(side, side, seed=0)[None].to(device) - 0.5) / 0.25
    boxes = random_boxes(num_regions, side, side, seed=2).to(device)

    def ours_bf16() -> Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            return encoder.dense_features(image).float()

    ways: dict[str, tuple[Callable[[], Tensor], Callable[[Tensor], Tensor]]] = {
        "plain fp32": (
            lambda: plain_map(encoder, image),
            lambda dense: plain_regions(dense, boxes, encoder.cell),
        ),
        "ours fp32": (
            lambda: encoder.dense_features(image),
            lambda dense: pool_boxes(dense, [boxes], cell=encoder.cell),
        ),
        "ours bf16": (ours_bf16, lambda dense: pool_boxes(dense, [boxes], cell=encoder.cell)),
    }
    peaks: dict[str, float] = {}
    maps: dict[str, Tensor] = {}
    vectors: dict[str, Tensor] = {}
    for name, (to_map, to_vectors) in ways.items():
        before, peak = peak_megabytes(partial(_keep, maps, name, to_map), device)
        peaks[name] = peak - before
        vectors[name] = to_vectors(maps[name])
    # the run for memory was the one to warm up
    map_times = interleaved(
        {name: to_map for name, (to_map, _) in ways.items()},
        repeats=repeats,
        device=device,
        warm_up=0,
    )
    region_times = interleaved(
        {name: partial(to_vectors, maps[name]) for name, (_, to_vectors) in ways.items()},
        repeats=repeats,
        device=device,
    )
    totals = {name: map_times[name].seconds + region_times[name].seconds for name in ways}
    plain = vectors["plain fp32"]
    rows, differences = [], {}
    for name, total in totals.items():
        differences[name] = float((vectors[name] - plain).norm() / plain.norm())
        rows.append(
            {
                "dense regions": name,
                "map, s": f"{map_times[name].seconds:.3f}",
                "regions, s": f"{region_times[name].seconds:.3f}",
                "ratio": f"{totals['plain fp32'] / total:.2f}",
                "map's peak, MB": f"{peaks[name]:.0f}",
                "relative difference": f"{differences[name]:.1e}",
                "cores busy": f"{map_times[name].busy_cores:.2f}",
            }
        )
    return Report(
        name="dense",
        title=f"Dense map of a {side}x{side} image and {num_regions} regions of it, ViT-B/16",
        rows=rows,
        notes=[
            "plain: the last block run as trained and thrown away, then once more for its values, "
            "scores of attention written down, torchvision's ROIAlign",
        ],
        targets={
            "faster than plain in fp32 with a relative difference below 1e-5": differences[
                "ours fp32"
            ]
            < 1e-5
            and totals["ours fp32"] < totals["plain fp32"],
        },
    )


def _keep(maps: dict[str, Tensor], name: str, to_map: Callable[[], Tensor]) -> None:
    maps[name] = to_map()


def plain_map(encoder: ClipVit, images: Tensor) -> Tensor:
    """Every block with its scores written down; the last one for its answer, and for its values."""
    visual = encoder.visual
    grid = (images.shape[2] // encoder.cell, images.shape[3] // encoder.cell)
    tokens = embed_patches(visual, images)
    *first, last = blocks_of(visual)
    for block in first:
        tokens = plain_block(block, tokens)
    plain_block(last, tokens)
    attention, width = last.attn, tokens.shape[2]
    projected = F.linear(last.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias)
    tokens = tokens + attention.out_proj(projected[..., 2 * width :])
    tokens = tokens + last.mlp(last.ln_2(tokens))
    vectors = visual.ln_post(tokens[:, 1:]) @ visual.proj
    return F.normalize(vectors, dim=2).transpose(1, 2).unflatten(2, grid)


def plain_block(block: ResidualAttentionBlock, tokens: Tensor) -> Tensor:
    """Softmax attention as it is defined."""
    attention = block.attn
    projected = F.linear(block.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = (
        each.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
        for each in projected.chunk(3, dim=2)
    )
    scores = query @ key.transpose(2, 3) * query.shape[3] ** -0.5
    answer = (scores.softmax(dim=3) @ value).transpose(1, 2).flatten(2)
    tokens = tokens + attention.out_proj(answer)
    return tokens + block.mlp(block.ln_2(tokens))


def plain_regions(dense: Tensor, boxes: Tensor, cell: int) -> Tensor:
    """One bin of torchvision's ROIAlign."""
    return roi_align(dense, [boxes], 1, 1 / cell, sampling_ratio=-1, aligned=True)[:, :, 0, 0]
