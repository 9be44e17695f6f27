r"""A Faster R-CNN whose classifier is a text tower.

    images -> trunk to layer3 -> anchors judged -> proposals
                              \-> ROIAlign -> layer4 -> mean -> vectors in the texts' space
                                                             -> offsets of boxes

:class:`Detic` holds the parts; ``detecting.py`` and ``learner.py`` run them in order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import roi_align

from regionclip.data.transforms import maps_by_size
from regionclip.detections.box_coder import bounded
from regionclip.encoders.text_tower import TextTower
from regionclip.proposals.rpn import (
    RegionProposalNetwork,
    RpnLevel,
    RpnSelection,
    judge_anchors,
    select_proposals,
)
from regionclip.proposals.rpn_backbone import resnet_stage
from regionclip.structures import Proposals

from .config import DeticConfig

ROI_GRID = 14
"""Bins a side of a region before layer4 halves them; Faster R-CNN's C4 form (detectron2
``POOLER_RESOLUTION``)."""


@dataclass(frozen=True, slots=True)
class RegionAnswers:
    """What the box head says of regions.

    Attributes:
        embeddings: In the space of the texts, of any length.
        deltas: Offsets of the boxes, see :func:`~regionclip.detections.box_coder.decode_boxes`.
    """

    embeddings: Float[Tensor, "R D"]
    deltas: Float[Tensor, "R 4"]


class Detic(nn.Module):
    """All weights of one detector.

    Attributes:
        config: What it was built from.
        encoder: The frozen text tower.
        proposer: Trunk and head of the proposal network; regions are cut from the same map.
        region_stage: layer4.
        class_layer: To the texts' space.
        box_layers: To offsets, class-agnostic.
        class_bias: Added to logits of classes.
        caption_bias: Added to those of captions, in training.
        tag_bias: Added to those of the classes that captions name, in training.
        background: A row that stands for no class in the original; zero there, and never trained.
        class_embeddings: Rows of the classes that the model carries, or none.

    Source:
        Detic (arXiv:2201.02605), sec. 3 and appendix; CLIM (arXiv:2312.11376), sec. 4.2.
    """

    background: Tensor
    class_embeddings: Tensor

    def __init__(self, config: DeticConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = TextTower(config.text).requires_grad_(False)
        self.proposer = RegionProposalNetwork(config.rpn)
        channels = self.proposer.backbone.channels[-1]
        self.region_stage = resnet_stage(
            channels,
            channels // 2,
            config.region_blocks,
            stride=2,
            strided_conv=config.rpn.strided_conv,
        )
        self.class_layer = nn.Linear(2 * channels, config.text.embed_dim)
        self.box_layers = nn.Sequential(
            nn.Linear(2 * channels, 2 * channels), nn.ReLU(), nn.Linear(2 * channels, 4)
        )
        self.class_bias = nn.Parameter(torch.full((1,), config.initial_bias))
        self.caption_bias = nn.Parameter(torch.full((1,), config.initial_bias))
        self.tag_bias = nn.Parameter(torch.full((1,), config.initial_bias))
        self.register_buffer("background", torch.zeros(config.text.embed_dim))
        rows = torch.zeros(config.num_classes, config.text.embed_dim)
        self.register_buffer("class_embeddings", rows)
        self._init_weights()

    def _init_weights(self) -> None:
        for module in self.region_stage.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.class_layer.weight, std=0.01)
        nn.init.zeros_(self.class_layer.bias)
        nn.init.normal_(self.box_layers[2].get_parameter("weight"), std=0.001)
        nn.init.zeros_(self.box_layers[2].get_parameter("bias"))

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.class_bias.device

    def maps(self, images: Sequence[Tensor]) -> list[Tensor]:
        """layer3's map ``(1, F, h, w)`` of each RGB image ``(3, H, W)`` in [0, 1].

        See :func:`~regionclip.data.transforms.maps_by_size`.
        """
        proposer = self.proposer
        found = maps_by_size(images, lambda own: proposer.feature_maps(proposer.prepare(own)))
        return [own for (own,) in found]

    def judge(self, image_map: Float[Tensor, "1 F h w"]) -> RpnLevel:
        """Objectness and offsets of all anchors of one image."""
        config = self.config.rpn
        (level,) = judge_anchors(
            self.proposer.head,
            [image_map],
            anchor_sizes=config.anchor_sizes,
            aspect_ratios=config.aspect_ratios,
            strides=config.strides,
        )
        return level

    @torch.no_grad()
    def propose(
        self, judged: RpnLevel, size_hw: tuple[int, int], selection: RpnSelection
    ) -> Proposals:
        """The best boxes of one image of ``size_hw`` pixels, inside it."""
        level = RpnLevel(judged.logits, bounded(judged.deltas), judged.anchors)
        (found,) = select_proposals([level], size_hw, selection)
        return found

    def answer(
        self, maps: Sequence[Float[Tensor, "1 F _ _"]], boxes: Sequence[Float[Tensor, "_ 4"]]
    ) -> RegionAnswers:
        """What the box head says of boxes ``xyxy`` in pixels, image after image."""
        hidden = self._hidden(maps, boxes)
        embeddings, deltas = self.class_layer(hidden), self.box_layers(hidden)
        return RegionAnswers(embeddings.float(), deltas.float())

    def embed(
        self, maps: Sequence[Float[Tensor, "1 F _ _"]], boxes: Sequence[Float[Tensor, "_ 4"]]
    ) -> Float[Tensor, "R D"]:
        """Vectors of boxes ``xyxy`` in pixels, image after image, of any length."""
        return self.class_layer(self._hidden(maps, boxes)).float()

    def _hidden(
        self, maps: Sequence[Tensor], boxes: Sequence[Float[Tensor, "_ 4"]]
    ) -> Float[Tensor, "R F"]:
        (stride,) = self.config.rpn.strides
        cells = [
            roi_align(
                own_map.float(),
                [own.to(own_map.device, torch.float32)],
                ROI_GRID,
                1 / stride,
                sampling_ratio=-1,
                aligned=True,
            )
            for own_map, own in zip(maps, boxes, strict=True)
        ]
        return self.region_stage(torch.cat(cells)).mean(dim=(2, 3))


def build(config: DeticConfig) -> Detic:
    """Build a detector with random weights, in ``eval`` mode, ready for a checkpoint."""
    return Detic(config).eval()


def carry_classes(
    model: Detic, names: Sequence[str], class_embeddings: Float[Tensor, "C D"]
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
