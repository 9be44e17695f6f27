"""Region proposal networks: class-agnostic boxes with objectness logits, from their own backbone.

The three forms that RegionCLIP's localiser files come in are :data:`RPN_FORMS`; a narrow network
of the same kind is a :class:`RpnConfig` with other numbers.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FeaturePyramidNetwork, batched_nms
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from regionclip.data.transforms import normalize_and_pad, rows_by_size
from regionclip.detections.box_coder import clip_boxes, decode_boxes, nonempty
from regionclip.encoders.batch_norms import fold_batch_norms
from regionclip.structures import PreparedImage, Proposals

from .anchors import cell_anchors, grid_anchors
from .rpn_backbone import ClipTrunk, ResNetTrunk, StridedConv

DELTA_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
"""Detectron2's ``RPN.BBOX_REG_WEIGHTS``: deltas are stored as they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RpnSelection:
    """Which of all anchors' boxes become proposals."""

    pre_nms_topk: int = 1000
    """Best boxes of each level that enter NMS."""
    post_nms_topk: int = 1000
    """Proposals kept per image, over all levels."""
    nms_iou: float = 0.7
    """IoU above which the lower box of the same level is dropped; RegionCLIP's zero-shot runs use
    0.9 (``CLIP.OFFLINE_RPN_NMS_THRESH``)."""

    def __post_init__(self) -> None:
        if not 0 < self.nms_iou <= 1:
            raise ValueError(f"nms_iou must be in (0, 1], got {self.nms_iou}")
        if self.pre_nms_topk < 1 or self.post_nms_topk < 1:
            raise ValueError(
                "pre_nms_topk and post_nms_topk must be at least 1, got "
                f"{self.pre_nms_topk} and {self.post_nms_topk}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class RpnConfig:
    """Architecture and preprocessing of one proposal network.

    The defaults are RegionCLIP's FPN localiser (``rpn_lvis_866``): detectron2@e3ee0ab
    ``configs/Base-RCNN-FPN.yaml`` and ``detectron2/config/defaults.py``.
    """

    backbone: Literal["resnet", "clip_resnet"] = "resnet"
    layers: tuple[int, ...] = (3, 4, 6, 3)
    """Blocks of each stage; the last map has stride ``2 ** (len(layers) + 1)``."""
    width: int = 64
    """Channels after the stem."""
    strided_conv: StridedConv = "conv1"
    """Where a ResNet block has its stride; detectron2's ``RESNETS.STRIDE_IN_1X1``."""
    pyramid_channels: int | None = 256
    """Channels of the feature pyramid; ``None`` predicts from the last stage alone ("C4")."""
    pyramid_has_norm: bool = False
    head_convs: int = 1
    """3x3 convolutions before the predictions."""
    anchor_sizes: tuple[tuple[float, ...], ...] = ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))
    """Pixels, per level, finest first; a pyramid has one level more than ``layers``."""
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Height over width."""
    channel_order: Literal["rgb", "bgr"] = "bgr"
    pixel_range: float = 255.0
    """Value of white that the statistics are in."""
    pixel_mean: tuple[float, float, float] = (103.53, 116.28, 123.675)
    """In ``channel_order`` and ``pixel_range``."""
    pixel_std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    selection: RpnSelection = field(default_factory=RpnSelection)

    def __post_init__(self) -> None:
        if self.backbone == "clip_resnet" and (len(self.layers) != 4 or not self.pyramid_channels):
            raise ValueError(
                "a clip_resnet backbone needs four layers and pyramid_channels, got "
                f"{self.layers} and {self.pyramid_channels}"
            )
        if len(self.anchor_sizes) != len(self.strides):
            raise ValueError(
                f"anchor_sizes must have one row for each of the strides {self.strides}, "
                f"got {len(self.anchor_sizes)}"
            )
        if len({len(sizes) for sizes in self.anchor_sizes}) != 1:
            raise ValueError(
                "anchor_sizes must have equally many sizes per level (the head is shared), got "
                f"{self.anchor_sizes}"
            )

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels per cell of each level, finest first."""
        stages = tuple(4 << depth for depth in range(len(self.layers)))
        return stages[-1:] if self.pyramid_channels is None else (*stages, 2 * stages[-1])

    @property
    def size_divisor(self) -> int:
        """Inputs are padded to multiples of this, so that a pyramid's maps double exactly."""
        return 1 if self.pyramid_channels is None else 2 << len(self.layers)


_C4 = RpnConfig(
    layers=(3, 4, 6),
    pyramid_channels=None,
    anchor_sizes=((32.0, 64.0, 128.0, 256.0, 512.0),),
    selection=RpnSelection(pre_nms_topk=6000),
)
_FPN = RpnConfig()
RPN_FORMS = {
    "c4": _C4,
    "fpn": _FPN,
    "fpn_lsj": replace(_FPN, pyramid_has_norm=True, head_convs=2),
    "fpn_clip": replace(
        _FPN,
        backbone="clip_resnet",
        channel_order="rgb",
        pixel_range=1.0,
        pixel_mean=OPENAI_DATASET_MEAN,
        pixel_std=OPENAI_DATASET_STD,
    ),
}
"""The forms of the released localisers: ``rpn_coco_48/65/80``, ``rpn_lvis_866``,
``rpn_lvis_866_lsj`` and ``rpn_lvis_1203_clipbackbone``.

Source: microsoft/RegionCLIP@4b8513b ``configs/*/mask_rcnn_*.yaml`` on detectron2's defaults.
"""


@dataclass(frozen=True, slots=True)
class RpnLevel:
    """What the network says about all anchors of one level, for a batch.

    Attributes:
        logits: Objectness of each anchor, in (row, column, anchor) order.
        deltas: ``(dx, dy, dw, dh)`` from the anchors; see :func:`decode_boxes`.
        anchors: ``xyxy``, pixels of the network's input; may reach outside it.
    """

    logits: Float[Tensor, "B N"]
    deltas: Float[Tensor, "B N 4"]
    anchors: Float[Tensor, "N 4"]


class RegionProposalNetwork(nn.Module):
    """A backbone, perhaps a feature pyramid, and a head that judges anchors. A ``Proposer``.

    Attributes:
        config: What the network was built from.
        selection: May be replaced between calls; starts as ``config.selection``.
    """

    def __init__(self, config: RpnConfig) -> None:
        super().__init__()
        self.config = config
        self.selection = config.selection
        if config.backbone == "clip_resnet":
            self.backbone = ClipTrunk(config.layers, width=config.width)
        else:
            self.backbone = ResNetTrunk(
                config.layers, width=config.width, strided_conv=config.strided_conv
            )
        channels = self.backbone.channels
        self.pyramid: FeaturePyramidNetwork | None = None
        if config.pyramid_channels is not None:
            self.pyramid = FeaturePyramidNetwork(
                channels,
                config.pyramid_channels,
                extra_blocks=LastLevelMaxPool(),
                norm_layer=nn.BatchNorm2d if config.pyramid_has_norm else None,
            )
        self.head = RPNHead(
            config.pyramid_channels or channels[-1],
            len(config.anchor_sizes[0]) * len(config.aspect_ratios),
            conv_depth=config.head_convs,
        )

    def fold_batch_norms(self) -> "RegionProposalNetwork":
        """Fold norms into convolutions and store them channels last: faster, for inference only.

        Raises:
            ValueError: The network is in training mode.
        """
        fold_batch_norms(self)
        return self.to(memory_format=torch.channels_last)

    def prepare(self, images: Sequence[Tensor]) -> Float[Tensor, "B 3 H W"]:
        """Normalise RGB images ``(3, H, W)`` in [0, 1] and pad them right and below with zeros."""
        config = self.config
        weight = self.head.cls_logits.weight
        images = [image.to(weight.device) for image in images]
        if config.channel_order == "bgr":
            images = [image.flip(0) for image in images]
        batch = normalize_and_pad(
            images,
            mean=[mean / config.pixel_range for mean in config.pixel_mean],
            std=[std / config.pixel_range for std in config.pixel_std],
            size_divisor=config.size_divisor,
        )
        return batch.to(weight.dtype)

    def feature_maps(self, images: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        """One map per level of prepared images, finest first."""
        maps = self.backbone(images)
        if self.pyramid is None:
            return maps[-1:]
        named = OrderedDict((str(level), level_map) for level, level_map in enumerate(maps))
        return list(self.pyramid(named).values())

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> list[RpnLevel]:
        """Judge all anchors on prepared images; losses are computed from this.

        Returns:
            One entry per level, finest first.
        """
        config = self.config
        return judge_anchors(
            self.head,
            self.feature_maps(images),
            anchor_sizes=config.anchor_sizes,
            aspect_ratios=config.aspect_ratios,
            strides=config.strides,
        )

    @torch.no_grad()
    def propose(self, images: Sequence[PreparedImage]) -> list[Proposals]:
        """Proposals of each image, best first, as :class:`Proposer` says.

        Images of equal size go through the network together; others on their own, since padding
        would change what is found near the border.
        """
        results: dict[int, Proposals] = {}
        for rows in rows_by_size([image.size_hw for image in images]):
            levels = self(self.prepare([images[row].pixels for row in rows]))
            selected = select_proposals(levels, images[rows[0]].size_hw, self.selection)
            results.update(zip(rows, selected, strict=True))
        return [results[row] for row in range(len(images))]


def judge_anchors(
    head: RPNHead,
    maps: Sequence[Tensor],
    *,
    anchor_sizes: Sequence[Sequence[float]],
    aspect_ratios: Sequence[float],
    strides: Sequence[int | float],
) -> list[RpnLevel]:
    """Objectness and offsets of all anchors of a pyramid.

    Args:
        head: Shared by the levels.
        maps: ``(B, F, h, w)`` each, finest first.
        anchor_sizes: Pixels, per level; equally many.
        aspect_ratios: Height over width.
        strides: Pixels per cell of each level.
    """
    logits, deltas = head(list(maps))
    levels = []
    for level, stride in enumerate(strides):
        cell = cell_anchors(anchor_sizes[level], aspect_ratios).to(maps[level].device)
        height, width = maps[level].shape[-2:]
        levels.append(
            RpnLevel(
                logits=logits[level].permute(0, 2, 3, 1).flatten(1),
                deltas=deltas[level].permute(0, 2, 3, 1).reshape(len(maps[level]), -1, 4),
                anchors=grid_anchors(cell, (height, width), stride=stride),
            )
        )
    return levels


def select_proposals(
    levels: Sequence[RpnLevel], size_hw: tuple[int, int], selection: RpnSelection
) -> list[Proposals]:
    """The best boxes of each image of a batch.

    Per level the best anchors are decoded, clipped to the image, dropped if they are empty or not
    finite, and thinned by NMS; then the best over all levels are kept.

    Args:
        levels: The network's output.
        size_hw: Size of the images without padding.
        selection: How many, and how far apart.

    Source:
        detectron2@e3ee0ab ``detectron2/modeling/proposal_generator/proposal_utils.py``.
    """
    best = [_best_of_level(level, selection.pre_nms_topk) for level in levels]
    boxes = torch.cat([level_boxes for level_boxes, _ in best], dim=1)
    logits = torch.cat([level_logits for _, level_logits in best], dim=1)
    sizes = [level_logits.shape[1] for _, level_logits in best]
    level_index = torch.arange(len(levels)).repeat_interleave(torch.tensor(sizes)).to(boxes.device)
    results = []
    for own_boxes, own_logits in zip(boxes, logits, strict=True):
        finite = own_boxes.isfinite().all(dim=1) & own_logits.isfinite()
        own_boxes = clip_boxes(own_boxes, size_hw)
        kept = finite & nonempty(own_boxes)
        own_boxes, own_logits = own_boxes[kept], own_logits[kept]
        order = batched_nms(own_boxes, own_logits, level_index[kept], selection.nms_iou)
        order = order[: selection.post_nms_topk]
        results.append(Proposals(boxes=own_boxes[order], objectness=own_logits[order]))
    return results


def _best_of_level(level: RpnLevel, topk: int) -> tuple[Tensor, Tensor]:
    """``(B, K, 4)`` boxes and ``(B, K)`` logits of the level's best anchors, in float32."""
    # a full sort, as upstream: top-k may order equal logits otherwise
    logits, order = level.logits.float().sort(dim=1, descending=True)
    logits, order = logits[:, :topk], order[:, :topk]
    deltas = level.deltas.float().gather(1, order[..., None].expand(-1, -1, 4))
    anchors = level.anchors[order]
    boxes = decode_boxes(deltas.flatten(0, 1), anchors.flatten(0, 1), weights=DELTA_WEIGHTS)
    return boxes.unflatten(0, order.shape), logits
