"""A frozen CLIP that names regions, and a localiser that is told what to look for.

    images -> maps -> anchors' classes -> boxes -> region features

:meth:`Cora.forward` is that line up to the boxes; ``detecting.py`` goes on to detections.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_convert

from regionclip.encoders.clip_resnet import ClipResNet
from regionclip.encoders.frozen_norms import bottleneck, feature_map_with_frozen_norms
from regionclip.regions.map_attention import pool_boxes_on_map
from regionclip.regions.region_head import STRIDE, RegionHead
from regionclip.regions.valid_cells import map_padding, valid_sizes_wh

from .config import CoraConfig
from .decoder import BoxDecoder, DecodedQueries, Memory
from .encoder import MapEncoder
from .mlp import Mlp, Zeros
from .positions import map_positions
from .pre_matching import match_anchors


@dataclass(frozen=True, slots=True)
class ImageMaps:
    """What the frozen image tower gives of a batch.

    Attributes:
        layer3: One cell per 16 pixels.
        layer4: One cell per 32 pixels.
        layer3_padding: Cells that are no part of their image.
        layer4_padding: The same on the smaller map.
    """

    layer3: Float[Tensor, "B F h w"]
    layer4: Float[Tensor, "B G i j"]
    layer3_padding: Bool[Tensor, "B h w"]
    layer4_padding: Bool[Tensor, "B i j"]


@dataclass(frozen=True, slots=True)
class Localization:
    """What the localiser says, query by query, after each of its ``L`` decoder layers.

    Attributes:
        boxes: ``cxcywh``, shares of the unpadded image's sides.
        objectness: Class-free logits, unbounded.
        classes: What each query was told to look for: a row of the class embeddings.
        anchor_index: The anchor that each query began as. Queries are in order of class, and
            within a class in order of anchor.
        decoded: What boxes and objectness were read from.
    """

    boxes: Float[Tensor, "L B Q 4"]
    objectness: Float[Tensor, "L B Q"]
    classes: Int[Tensor, "B Q"]
    anchor_index: Int[Tensor, "B Q"]
    decoded: DecodedQueries


class Cora(nn.Module):
    """All weights of one detector.

    Attributes:
        config: What it was built from.
        encoder: Frozen image and text tower. The attention pool's positional embedding is the
            region prompt.
        anchors: ``cxcywh`` before the sigmoid, shares of the image's sides.
        input_proj: layer3 cells to the localiser's width.
        text_proj: Class embeddings to what queries are told of them.
        map_encoder: Cells see each other.
        decoder: Queries become boxes.
        objectness: Hidden queries to one logit, in every layer the same.

    Source:
        CORA (arXiv:2303.13076), sec. 3; tgxs002/CORA@c334a6d.
    """

    def __init__(self, config: CoraConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.encoder = ClipResNet(config.encoder).requires_grad_(False)
        self.anchors = nn.Parameter(torch.randn(config.num_queries, 4))
        self.input_proj = nn.Conv2d(config.encoder.map_channels, width, 1)
        self.text_proj = (
            Mlp(config.encoder.embed_dim, config.text_bottleneck, width)
            if config.query_content == "class"
            else Zeros(width)
        )
        self.map_encoder = MapEncoder(
            layers=config.encoder_layers,
            width=width,
            heads=config.heads,
            feedforward=config.feedforward,
            dropout=config.dropout,
        )
        self.decoder = BoxDecoder(
            layers=config.decoder_layers,
            width=width,
            heads=config.heads,
            feedforward=config.feedforward,
            dropout=config.dropout,
        )
        self.objectness = nn.Linear(width, 1)

    @property
    def region_head(self) -> RegionHead:
        """layer4 and the attention pool with the region prompt, for regions of layer3."""
        return RegionHead(self.encoder.visual)

    @property
    def region_prompt(self) -> nn.Parameter:
        """The attention pool's positional embedding, ``(1 + grid * grid, F)``; frozen here."""
        return self.encoder.visual.attnpool.positional_embedding

    def train(self, mode: bool = True) -> "Cora":
        """Put the localiser into ``train`` mode; the towers stay in ``eval``."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(
        self,
        images: Sequence[Tensor],
        class_embeddings: Float[Tensor, "C D"],
        *,
        class_factors: Float[Tensor, " C"] | None = None,
    ) -> Localization:
        """Find what the class embeddings describe.

        Args:
            images: ``(3, H, W)`` RGB in [0, 1], resized, of any sizes; at least one.
            class_embeddings: Any length, at least one.
            class_factors: See :func:`~.pre_matching.novel_factors`; upstream uses them for
                inference only.
        """
        return self.find(self.maps(images), class_embeddings, class_factors=class_factors)

    def find(
        self,
        maps: ImageMaps,
        class_embeddings: Float[Tensor, "C D"],
        *,
        class_factors: Float[Tensor, " C"] | None = None,
    ) -> Localization:
        """As :meth:`forward`, of images that are encoded."""
        classes = match_anchors(
            self.anchor_features(maps),
            class_embeddings,
            class_factors=class_factors,
            temperature=self.config.temperature,
        )
        return self.localize(maps, classes, class_embeddings)

    @torch.no_grad()
    def maps(self, images: Sequence[Tensor], *, dtype: torch.dtype = torch.float32) -> ImageMaps:
        """Encode images; without gradients.

        Args:
            images: As :meth:`forward` takes them.
            dtype: What the tower computes in, and the maps are of.
        """
        batch = self.encoder.prepare(images)
        batch = batch.to(dtype=dtype, memory_format=torch.channels_last)
        layer3 = feature_map_with_frozen_norms(self.encoder.visual, batch)
        layer4 = layer3
        for block in self.encoder.visual.layer4:
            layer4 = bottleneck(layer4, block)
        sizes = ((int(layer.shape[2]), int(layer.shape[3])) for layer in (layer3, layer4))
        padding = (map_padding(images, batch, size_hw) for size_hw in sizes)
        return ImageMaps(layer3, layer4, *padding)

    @torch.no_grad()
    def region_features(
        self, maps: ImageMaps, boxes_cxcywh: Float[Tensor, "B R 4"]
    ) -> Float[Tensor, "B R D"]:
        """Vectors that decide what a box is called; not normalised, without gradients.

        Args:
            maps: Of ``B`` images.
            boxes_cxcywh: Shares of the unpadded image's sides; may reach outside it.
        """
        head = self.region_head
        lifted = head.lift(maps.layer3)
        boxes = cell_boxes(boxes_cxcywh, maps.layer3_padding) * STRIDE
        return torch.stack([head(lifted, image, own) for image, own in enumerate(boxes)])

    @torch.no_grad()
    def anchor_features(self, maps: ImageMaps) -> Float[Tensor, "B Q D"]:
        """Vectors of what lies under each anchor, for pre-matching; in the order of anchors.

        Without gradients, not normalised; see
        :func:`~regionclip.regions.map_attention.pool_boxes_on_map`.
        """
        anchors = self.anchors.sigmoid().expand(len(maps.layer4), -1, -1)
        boxes = cell_boxes(anchors, maps.layer4_padding)
        pool = self.encoder.visual.attnpool
        pairs = zip(maps.layer4.float(), boxes, strict=True)
        return torch.stack([pool_boxes_on_map(layer4, own, pool) for layer4, own in pairs])

    def localize(
        self,
        maps: ImageMaps,
        anchor_classes: Int[Tensor, "N Q"],
        class_embeddings: Float[Tensor, "C D"],
    ) -> Localization:
        """Turn anchors that look for a class each into boxes.

        Args:
            maps: Of ``B`` images.
            anchor_classes: In the order of anchors; ``N`` is a multiple of ``B``: the images in
                order, perhaps several times over, with other classes each time.
            class_embeddings: Any length, not zero.
        """
        classes, anchor_index = anchor_classes.sort(dim=1, stable=True)
        embeddings = F.normalize(class_embeddings.to(self.anchors), dim=1)
        content = self.text_proj(embeddings)[classes]
        decoded = self.decoder(content, self.anchors[anchor_index], self._memory(maps))
        return Localization(
            boxes=decoded.boxes,
            objectness=self.objectness(decoded.hidden)[..., 0],
            classes=classes,
            anchor_index=anchor_index,
            decoded=decoded,
        )

    def _memory(self, maps: ImageMaps) -> Memory:
        cells = self.input_proj(maps.layer3.float()).flatten(2).transpose(1, 2)
        positions = map_positions(maps.layer3_padding, channels=self.config.width).flatten(1, 2)
        padding = maps.layer3_padding.flatten(1) if maps.layer3_padding.any() else None
        return Memory(self.map_encoder(cells, positions, padding), positions, padding)


def cell_boxes(
    boxes_cxcywh: Float[Tensor, "B R 4"], padding: Bool[Tensor, "B h w"]
) -> Float[Tensor, "B R 4"]:
    """Normalised ``cxcywh`` to ``xyxy`` in cells of the image's map, not clipped."""
    boxes = box_convert(boxes_cxcywh, "cxcywh", "xyxy")
    return boxes * valid_sizes_wh(padding).repeat(1, 2)[:, None]


def build(config: CoraConfig) -> Cora:
    """Build a detector with random weights, in ``eval`` mode, ready for a checkpoint."""
    return Cora(config).eval()
