r"""CenterNet2 with text classifiers: a heatmap proposes, three stages name and move in turn.

images -> ResNet -> pyramid -> heatmap -> proposals -> stage 0 -> boxes -> stage 1 -> ...
                                                                \-> embeddings
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from regionclip.data.transforms import maps_by_size, normalize_and_pad
from regionclip.detections.box_coder import bounded, clip_boxes, decode_boxes
from regionclip.encoders.text_tower import TextTower
from regionclip.proposals.centernet import CenterHead, CenterLevel
from regionclip.proposals.rpn_backbone import ResNetTrunk
from regionclip.regions.pyramid_align import pyramid_roi_align

from .cascade_config import BOX_WEIGHTS, STRIDES, CascadeConfig
from .cascade_heads import MASK_GRID, ROI_GRID, CascadeMaskHead, CascadeStage, StageAnswers

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet's, of RGB in [0, 1]."""
SIZE_DIVISOR = 32
"""Images are padded to multiples of this many pixels: the ResNet's last stride."""
REGION_LEVELS = 3
"""Levels that regions are cut from: P3 to P5, those that come from the ResNet itself, as in FPN
(arXiv:1612.03144), sec. 4."""
FINEST_SIDE = 112.0
"""Pixels: see :data:`regionclip.regions.pyramid_align.FINEST_SIDE`; the finest stride is 8 here."""


class CascadeDetic(nn.Module):
    """All weights of one detector.

    Attributes:
        config: What it was built from.
        encoder: CLIP's text tower, frozen.
        backbone: The ResNet.
        pyramid: Five levels.
        center_head: Judges their cells.
        stages: Name and move regions.
        mask_head: Draws their masks; ``None`` if it does not.
        class_embeddings: Rows of the classes that the model carries, or none.

    Source:
        Probabilistic two-stage detection (arXiv:2103.07461); Detic (arXiv:2201.02605), sec. 5.1;
        CLIM (arXiv:2312.11376), sec. 4.2.
    """

    class_embeddings: Tensor

    def __init__(self, config: CascadeConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = TextTower(config.text).requires_grad_(False)
        self.backbone = ResNetTrunk(config.layers, width=config.width, strided_conv="conv2")
        self.pyramid = FeaturePyramidNetwork(
            self.backbone.channels[1:],
            config.channels,
            extra_blocks=LastLevelP6P7(config.channels, config.channels),
        )
        self.center_head = CenterHead(config.channels, STRIDES)
        self.stages = nn.ModuleList(
            CascadeStage(config.channels, width=config.head_width, embed_dim=config.text.embed_dim)
            for _ in BOX_WEIGHTS
        )
        self.mask_head = CascadeMaskHead(config.channels) if config.mask_head else None
        rows = torch.zeros(config.num_classes, config.text.embed_dim)
        self.register_buffer("class_embeddings", rows)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.backbone.conv1.weight.device

    def train(self, mode: bool = True) -> "CascadeDetic":
        """Put the detector into ``train`` mode; the text tower and all batch norms stay."""
        super().train(mode)
        self.encoder.eval()
        self.backbone.eval()
        return self

    def prepare(self, images: Sequence[Tensor]) -> Float[Tensor, "B 3 H W"]:
        """Normalise RGB images ``(3, H, W)`` in [0, 1] and pad them with the mean pixel."""
        own = [image.to(self.device) for image in images]
        return normalize_and_pad(own, mean=MEAN, std=STD, size_divisor=SIZE_DIVISOR)

    def pyramids(self, images: Sequence[Tensor]) -> list[list[Tensor]]:
        """The pyramid of each RGB image ``(3, H, W)`` in [0, 1], finest first.

        See :func:`~regionclip.data.transforms.maps_by_size`; padding beside a larger image would
        also change the group norms of the heatmap and the number of its cells that are no object's
        centre.
        """
        return maps_by_size(images, lambda own: self.levels(self.prepare(own)))

    def levels(self, images: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        """The pyramid of prepared images, finest first."""
        maps = self.backbone(images)[1:]
        named = OrderedDict((str(level), each) for level, each in enumerate(maps))
        return list(self.pyramid(named).values())

    def judge(self, levels: Sequence[Tensor]) -> list[CenterLevel]:
        """Whether cells are centres of objects, and of which extent."""
        return self.center_head(levels)

    def answer(
        self,
        stage: int,
        pyramids: Sequence[Sequence[Tensor]],
        boxes: Sequence[Float[Tensor, "_ 4"]],
    ) -> StageAnswers:
        """What a stage says of boxes in prepared images, image after image."""
        return self.stages[stage](self.cells(pyramids, boxes, num_bins=ROI_GRID))

    def cells(
        self,
        pyramids: Sequence[Sequence[Tensor]],
        boxes: Sequence[Float[Tensor, "_ 4"]],
        *,
        num_bins: int = MASK_GRID,
    ) -> Float[Tensor, "R F bins bins"]:
        """Bins of boxes, from the pyramid of each image; by default those of the mask head."""
        cells = [
            pyramid_roi_align(
                levels[:REGION_LEVELS],
                [own],
                strides=STRIDES[:REGION_LEVELS],
                num_bins=num_bins,
                finest_side=FINEST_SIDE,
            )
            for levels, own in zip(pyramids, boxes, strict=True)
        ]
        return torch.cat(cells)


def move_boxes(
    stage: int,
    boxes: Sequence[Float[Tensor, "_ 4"]],
    deltas: Float[Tensor, "R 4"],
    sizes_hw: Sequence[tuple[int, int]],
) -> list[Float[Tensor, "_ 4"]]:
    """Where a stage moves boxes to, inside their images, without gradients.

    Args:
        stage: Counted from 0.
        boxes: Per image.
        deltas: The stage's, image after image.
        sizes_hw: Of the images, without padding.
    """
    weights = BOX_WEIGHTS[stage]
    own = bounded(deltas.detach(), weights=weights).split([len(each) for each in boxes])
    return [
        clip_boxes(decode_boxes(delta, each, weights=weights), size_hw)
        for delta, each, size_hw in zip(own, boxes, sizes_hw, strict=True)
    ]


def build_cascade(config: CascadeConfig) -> CascadeDetic:
    """Build a detector with random weights, in ``eval`` mode, ready for a checkpoint."""
    return CascadeDetic(config).eval()


def carry_classes(
    model: CascadeDetic, names: Sequence[str], class_embeddings: Float[Tensor, "C D"]
) -> None:
    """Let a model, in place, carry classes that it names when it is given none.

    Args:
        model: Gets the rows, whatever it had.
        names: One per row.
        class_embeddings: In the space of its regions.
    """
    rows = class_embeddings.detach().to(model.device, torch.float32, copy=True)
    model.class_embeddings = rows
    model.config = replace(
        model.config, num_classes=len(rows), class_names="", own_class_names=tuple(names)
    )
