"""Boxes from a heatmap: each cell of a pyramid judges whether an object's centre lies in it.

A cell also says how far the object reaches to its left, top, right and bottom; there are no
anchors. The heatmap knows no classes here: what an object is, later stages say.

Source:
    Objects as Points (arXiv:1904.07850); class-agnostic and on a pyramid: Probabilistic two-stage
    detection (arXiv:2103.07461), sec. 4 and 5, which calls it CenterNet2's first stage.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops.misc import Conv2dNormActivation

from regionclip.detections.box_coder import clip_boxes, nonempty
from regionclip.detections.nms import batched_nms
from regionclip.structures import Proposals

NUM_CONVS = 4
"""3x3 convolutions before the predictions; Probabilistic two-stage detection, sec. 5."""
NORM_GROUPS = 32
"""Of group norms (arXiv:1803.08494)."""
MIN_SIDE = 0.01
"""Pixels that a box reaches to the right and down at least, for a cell may give no distance."""
CENTER_PRIOR = 0.01
"""What a cell is a centre with before training; focal loss (arXiv:1708.02002), sec. 3.3."""
INITIAL_CELLS = 4.0
"""Distances before training: about those of the objects that a level is for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CenterSelection:
    """Which cells' boxes become proposals.

    As many as leave all 1364 of an image of 256 pixels, as wusize/CLIM@7baade3 does.
    """

    pre_nms_topk: int = 4000
    """Best boxes of each level that enter NMS."""
    post_nms_topk: int = 2000
    """Proposals kept per image, over all levels."""
    nms_iou: float = 0.9
    """IoU above which the lower box is dropped, of whatever level."""

    def __post_init__(self) -> None:
        if not 0 < self.nms_iou <= 1:
            raise ValueError(f"nms_iou must be in (0, 1], got {self.nms_iou}")
        if self.pre_nms_topk < 1 or self.post_nms_topk < 1:
            raise ValueError(
                "pre_nms_topk and post_nms_topk must be at least 1, got "
                f"{self.pre_nms_topk} and {self.post_nms_topk}"
            )


@dataclass(frozen=True, slots=True)
class CenterLevel:
    """What the cells of one level say, for a batch, row by row.

    Attributes:
        logits: Of a cell being an object's centre.
        distances: To the left, top, right and bottom side, pixels, not negative.
        points: ``x, y`` of the cells' middles, pixels.
        stride: Pixels per cell.
    """

    logits: Float[Tensor, "B N"]
    distances: Float[Tensor, "B N 4"]
    points: Float[Tensor, "N 2"]
    stride: int


class CenterHead(nn.Module):
    """Judges the cells of a pyramid; shared by its levels but for a factor on distances.

    Attributes:
        convs: Before both predictions.
        heatmap: One logit per cell.
        distances: Four numbers per cell, in cells.
        scales: One factor per level.
    """

    def __init__(self, channels: int, strides: Sequence[int]) -> None:
        """Build with random weights.

        Args:
            channels: Of every level; a multiple of 32.
            strides: Pixels per cell of each level, finest first.
        """
        super().__init__()
        self._strides = tuple(strides)
        norm = partial(nn.GroupNorm, NORM_GROUPS)
        self.convs = nn.Sequential(
            *(
                Conv2dNormActivation(channels, channels, 3, norm_layer=norm, bias=True)
                for _ in range(NUM_CONVS)
            )
        )
        self.heatmap = nn.Conv2d(channels, 1, 3, padding=1)
        self.distances = nn.Conv2d(channels, 4, 3, padding=1)
        self.scales = nn.ParameterList(torch.ones(()) for _ in strides)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.get_parameter("bias"))
        nn.init.constant_(
            self.heatmap.get_parameter("bias"), -math.log((1 - CENTER_PRIOR) / CENTER_PRIOR)
        )
        nn.init.constant_(self.distances.get_parameter("bias"), INITIAL_CELLS)

    def forward(self, levels: Sequence[Tensor]) -> list[CenterLevel]:
        """Judge maps ``(B, F, h, w)``, finest first."""
        judged = []
        for level, stride, scale in zip(levels, self._strides, self.scales, strict=True):
            hidden = self.convs(level)
            reach = F.relu(scale * self.distances(hidden)).float() * stride
            judged.append(
                CenterLevel(
                    logits=self.heatmap(hidden).float().flatten(1),
                    distances=reach.flatten(2).transpose(1, 2),
                    points=cell_points(level, stride=stride),
                    stride=stride,
                )
            )
        return judged


def cell_points(level: Float[Tensor, "B F h w"], *, stride: int) -> Float[Tensor, "N 2"]:
    """Middles ``x, y`` of a map's cells, row by row, in pixels."""
    height, width = level.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=level.device, dtype=torch.float32),
        torch.arange(width, device=level.device, dtype=torch.float32),
        indexing="ij",
    )
    return torch.stack([x, y], dim=2).reshape(-1, 2) * stride + stride // 2


def boxes_around(
    points: Float[Tensor, "N 2"], distances: Float[Tensor, "*B N 4"]
) -> Float[Tensor, "*B N 4"]:
    """``xyxy`` of boxes that reach so far from points; they may reach outside the image."""
    near, far = points - distances[..., :2], points + distances[..., 2:]
    return torch.cat([near, torch.maximum(far, near + MIN_SIDE)], dim=-1)


def select_centers(
    levels: Sequence[CenterLevel], size_hw: tuple[int, int], selection: CenterSelection
) -> list[Proposals]:
    """The best boxes of each image of a batch, the best first.

    They may reach outside the image, as those that later stages were trained on do; what lies
    outside whole is left out. Objectness is the logit of the heatmap.

    Args:
        levels: Of a batch.
        size_hw: Size of the images without padding.
        selection: How many, and how far apart.
    """
    best = [_best_of_level(each, selection.pre_nms_topk) for each in levels]
    logits = torch.cat([own for own, _ in best], dim=1)
    boxes = torch.cat([own for _, own in best], dim=1)
    found = []
    for own_logits, own in zip(logits, boxes, strict=True):
        is_finite = own.isfinite().all(dim=1) & own_logits.isfinite()
        kept = is_finite & nonempty(clip_boxes(own, size_hw))
        own, own_logits = own[kept], own_logits[kept]
        rows = batched_nms(
            own,
            own_logits,
            torch.zeros_like(own_logits, dtype=torch.int64),
            nms_iou=selection.nms_iou,
            max_kept=selection.post_nms_topk,
        )
        found.append(Proposals(own[rows], own_logits[rows]))
    return found


def _best_of_level(level: CenterLevel, topk: int) -> tuple[Tensor, Tensor]:
    """``(B, K)`` logits and ``(B, K, 4)`` boxes."""
    logits, order = level.logits.sort(dim=1, descending=True, stable=True)
    order = order[:, :topk]
    boxes = boxes_around(level.points, level.distances)
    return logits[:, :topk], boxes.gather(1, order[..., None].expand(-1, -1, 4))
