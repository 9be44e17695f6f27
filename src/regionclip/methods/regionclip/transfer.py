"""Transfer learning: a pretrained recogniser learns boxes of base classes on frozen proposals.

    images -> proposer (frozen) -> proposals -> paired with the boxes -> sampled regions
    images -> stem, layer1 (frozen) -> layer2, layer3 -> ROIAlign -> layer4 -> attention pool
           -> cosine with class embeddings (frozen), box offsets, masks -> losses

Source: RegionCLIP (arXiv:2112.09106), transfer to open-vocabulary detection;
microsoft/RegionCLIP@4b8513b ``detectron2/modeling/roi_heads/clip_roi_heads.py``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from regionclip.data.transforms import rows_by_size
from regionclip.detections.box_coder import REGION_BOX_WEIGHTS
from regionclip.encoders.frozen_norms import feature_map_with_frozen_norms
from regionclip.losses import (
    LossSum,
    box_l1_loss,
    focal_scaled_cross_entropy,
    mask_loss,
    weighted_cross_entropy,
)
from regionclip.pairs import (
    LabelledRegions,
    Permutation,
    mask_targets,
    pair_regions,
    random_permutation,
)
from regionclip.proposals.proposer import Proposer
from regionclip.regions.attention_pool import attention_pool
from regionclip.regions.region_head import LiftedMaps, RegionHead
from regionclip.scoring.cosine import class_logits
from regionclip.structures import DetectionBatch, PreparedImage, Targets

from .model import RegionClip, add_detection_heads

STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")
"""Of the image tower, in the order that ``freeze_at`` counts them; the attention pool follows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferConfig:
    """What fine-tuning minimises, over which regions, and what of the model it moves.

    Numbers are of microsoft/RegionCLIP@4b8513b, ``configs/COCO-InstanceSegmentation/
    CLIP_fast_rcnn_R_50_C4_ovd.yaml`` ("COCO"), ``configs/LVISv1-InstanceSegmentation/
    CLIP_fast_rcnn_R_50_C4.yaml`` ("LVIS") and detectron2's defaults.
    """

    classification_loss: Literal["weighted", "focal_scaled"] = "weighted"
    """LVIS: ``weighted``, cross-entropy normalised by the weights. COCO: ``focal_scaled``, times
    ``(1 - p) ** focal_gamma``, mean over regions; it forgets less where base classes are few."""
    focal_gamma: float | None = None
    """Of ``focal_scaled``, which needs it; COCO: 0.5 (``CLIP.FOCAL_SCALED_LOSS``)."""
    background_weight: float = 1.0
    """Factor on background regions in the classification loss; COCO: 0.2, LVIS: 0.8
    (``CLIP.BG_CLS_LOSS_WEIGHT``). Unlabelled objects of other classes are among them."""
    regions_per_image: int = 512
    """Regions that enter the losses (``ROI_HEADS.BATCH_SIZE_PER_IMAGE``)."""
    foreground_share: float = 0.25
    """Most of them, as a fraction, that are on objects (``ROI_HEADS.POSITIVE_FRACTION``)."""
    match_iou: float = 0.5
    """Overlap from which a region takes an object's label (``ROI_HEADS.IOU_THRESHOLDS``)."""
    train_masks: bool = False
    """Learn masks too, from polygons; LVIS: true (``MODEL.MASK_ON``)."""
    class_embeddings: Literal["frozen", "trained"] = "frozen"
    """``trained`` lets the vectors of the training classes move away from the text tower's, which
    other classes keep: for comparison. The original's are frozen."""
    freeze_at: int = 2
    """How many of stem, layer1, layer2, layer3 and layer4 stay as they are, from the first on
    (``BACKBONE.FREEZE_AT``)."""
    image_batching: Literal["by_size", "padded"] = "by_size"
    """``by_size``: images of one size go through the network together, others on their own, so
    that what an image teaches does not depend on its batch. ``padded``: all together, padded to
    the largest, as the original does; results near right and bottom borders then do depend."""
    activation_budget: int | None = None
    """Bytes that one chunk of regions may keep in layer4 for the backward pass; the chunks are then
    computed a second time there. ``None`` keeps everything and computes it once."""

    def __post_init__(self) -> None:
        if (self.classification_loss == "focal_scaled") != (self.focal_gamma is not None):
            raise ValueError(
                "focal_gamma belongs to classification_loss 'focal_scaled' and to no other, got "
                f"focal_gamma {self.focal_gamma} with {self.classification_loss!r}"
            )
        for name in ("foreground_share", "match_iou"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in (0, 1], got {getattr(self, name)}")
        for name in ("background_weight", "focal_gamma"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} must not be negative, got {value}")
        for name in ("regions_per_image", "activation_budget"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= self.freeze_at <= len(STAGES):
            raise ValueError(
                f"freeze_at must be from 0 to {len(STAGES)} ({', '.join(STAGES)}), "
                f"got {self.freeze_at}"
            )


COCO_TRANSFER = TransferConfig(
    classification_loss="focal_scaled", focal_gamma=0.5, background_weight=0.2
)
LVIS_TRANSFER = TransferConfig(background_weight=0.8, train_masks=True)


@dataclass(frozen=True, slots=True)
class RegionOutputs:
    """What the model says about sampled regions, image after image.

    Attributes:
        logits: One column per training class, background last, always 0.
        deltas: Offsets to the objects, see :func:`~regionclip.detections.box_coder.decode_boxes`.
        mask_logits: Of the regions on objects only; ``None`` if masks are not learned.
    """

    logits: Float[Tensor, "N C_out"]
    deltas: Float[Tensor, "N 4"]
    mask_logits: Float[Tensor, "F grid grid"] | None


class TransferLearner(nn.Module):
    """Learns to name and refine regions of base classes.

    Everything computes as in ``eval`` mode also while training: batch norms keep their statistics,
    and their weights too. What it cannot learn of is a class without embedding: labels are
    positions in ``train_embeddings``, and any other number is refused.

    Attributes:
        encoder: The model's own, shared.
        box_regressor: The model's own, shared.
        mask_head: The model's own, shared, if masks are learned.
        train_embeddings: The model's own, shared.
    """

    def __init__(
        self,
        model: RegionClip,
        class_embeddings: Float[Tensor, "C D"],
        proposer: Proposer,
        config: TransferConfig,
        *,
        permutation_of: Callable[[int], Permutation] = random_permutation,
    ) -> None:
        """Make ``model`` one that can be fine-tuned, and freeze what stays as it is.

        Args:
            model: Changed in place: it gets ``class_embeddings`` as its ``train_embeddings``, and
                a box regressor and a mask head with random weights if it lacks what is trained.
            class_embeddings: One row per training class, in the order of the labels, of any length.
            proposer: Gives regions of images at the training size; frozen here if it is a network.
            config: What to do.
            permutation_of: From an image's seed to the order in which its regions are drawn.

        Raises:
            ValueError: The rows are not as wide as the model's regions.
        """
        super().__init__()
        add_detection_heads(model, class_embeddings, with_masks=config.train_masks)
        self.config = config
        self.temperature = model.config.temperature
        self.encoder = model.encoder
        self.box_regressor = model.box_regressor
        self.mask_head = model.mask_head if config.train_masks else None
        self.train_embeddings = model.train_embeddings
        self.proposer = proposer
        self.permutation_of = permutation_of
        self._freeze()
        self.train()

    @property
    def num_classes(self) -> int:
        """Training classes; the label of background."""
        return len(self._rows)

    @property
    def _rows(self) -> Tensor:
        return self.get_parameter("train_embeddings")

    def train(self, mode: bool = True) -> "TransferLearner":
        """Leave all parts in ``eval`` mode."""
        super().train(False)
        self.training = mode
        return self

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """What an optimiser may move, by the model's own names."""
        return {name: own for name, own in self.named_parameters() if own.requires_grad}

    def forward(self, batch: DetectionBatch) -> dict[str, LossSum]:
        """Losses by name: ``classes``, ``boxes`` and, if they are learned, ``masks``."""
        regions = self.pair(batch)
        return self.losses(self.outputs(batch.images, regions), regions, batch.targets)

    @torch.no_grad()
    def pair(self, batch: DetectionBatch) -> list[LabelledRegions]:
        """Propose regions of each image and label those that enter the losses.

        Raises:
            ValueError: An object's label is none of the training classes.
        """
        config, device = self.config, self.encoder.device
        images = [
            PreparedImage(image, (int(image.shape[1]), int(image.shape[2])), f"image {row}")
            for row, image in enumerate(batch.images)
        ]
        proposals = self.proposer.propose(images)
        return [
            pair_regions(
                own.boxes.to(device),
                Targets(targets.boxes.to(device), targets.labels.to(device)),
                num_classes=self.num_classes,
                permutation=self.permutation_of(seed),
                match_iou=config.match_iou,
                regions_per_image=config.regions_per_image,
                foreground_share=config.foreground_share,
            )
            for own, targets, seed in zip(proposals, batch.targets, batch.seeds, strict=True)
        ]

    def outputs(
        self, images: Sequence[Tensor], regions: Sequence[LabelledRegions]
    ) -> RegionOutputs:
        """Run the recogniser on regions of images ``(3, H, W)``, RGB in [0, 1]."""
        visual = self.encoder.visual
        head = RegionHead(visual)
        features: dict[int, Tensor] = {}
        masks: dict[int, Tensor | None] = {}
        for rows in self._groups(images):
            prepared = self.encoder.prepare([images[row] for row in rows])
            prepared = prepared.contiguous(memory_format=torch.channels_last)
            maps = head.lift(feature_map_with_frozen_norms(visual, prepared))
            for place, row in enumerate(rows):
                features[row], masks[row] = self._embed(head, maps, place, regions[row])
        vectors = torch.cat([features[row] for row in range(len(images))]).float()
        # it cancels in the softmax; processes that average gradients still wait for its zero
        vectors = vectors + 0 * visual.attnpool.k_proj.bias.sum()
        regress = self.get_submodule("box_regressor")
        with torch.autocast(vectors.device.type, enabled=False):
            deltas = regress(vectors)
        logits = class_logits(
            vectors,
            self._rows,
            temperature=self.temperature,
            background_embedding=vectors.new_zeros(vectors.shape[1]),
        )
        return RegionOutputs(logits, deltas, _joined([masks[row] for row in range(len(images))]))

    def losses(
        self,
        outputs: RegionOutputs,
        regions: Sequence[LabelledRegions],
        targets: Sequence[Targets],
    ) -> dict[str, LossSum]:
        """What the outputs cost, by name."""
        labels = torch.cat([own.labels for own in regions])
        boxes = torch.cat([own.boxes[: own.num_foreground] for own in regions])
        foreground = _foreground_rows(regions).to(labels.device)
        objects = torch.cat(
            [
                each.boxes.to(labels.device)[own.target_index[: own.num_foreground]]
                for own, each in zip(regions, targets, strict=True)
            ]
        )
        found = {
            "classes": self._classification_loss(outputs.logits, labels),
            "boxes": box_l1_loss(
                outputs.deltas[foreground],
                boxes,
                objects,
                num_sampled=len(labels),
                weights=REGION_BOX_WEIGHTS,
            ),
        }
        if outputs.mask_logits is not None:
            grid = int(outputs.mask_logits.shape[-1])
            wanted = [
                mask_targets(own, each, grid=grid)
                for own, each in zip(regions, targets, strict=True)
            ]
            found["masks"] = mask_loss(outputs.mask_logits, torch.cat(wanted))
        return found

    def _classification_loss(self, logits: Tensor, labels: Tensor) -> LossSum:
        config = self.config
        if config.focal_gamma is None:
            return weighted_cross_entropy(
                logits, labels, background_weight=config.background_weight
            )
        return focal_scaled_cross_entropy(
            logits, labels, gamma=config.focal_gamma, background_weight=config.background_weight
        )

    def _groups(self, images: Sequence[Tensor]) -> list[list[int]]:
        if self.config.image_batching == "padded":
            return [list(range(len(images)))]
        return rows_by_size([(int(image.shape[1]), int(image.shape[2])) for image in images])

    def _embed(
        self, head: RegionHead, maps: LiftedMaps, image: int, regions: LabelledRegions
    ) -> tuple[Tensor, Tensor | None]:
        """Vectors of the regions of one image, and mask logits of those on objects."""
        budget = self.config.activation_budget
        size = max(1, len(regions) if budget is None else budget // head.kept_bytes)
        features, masks = [], []
        for start in range(0, max(1, len(regions)), size):
            boxes = regions.boxes[start : start + size]
            num_foreground = min(max(regions.num_foreground - start, 0), len(boxes))
            arguments = (head, maps, image, boxes, num_foreground)
            if budget is None:
                vectors, mask_logits = self._embed_chunk(*arguments)
            else:
                vectors, mask_logits = checkpoint(
                    self._embed_chunk, *arguments, use_reentrant=False
                )
            features.append(vectors)
            masks.append(mask_logits)
        return torch.cat(features), _joined(masks)

    def _embed_chunk(
        self, head: RegionHead, maps: LiftedMaps, image: int, boxes: Tensor, num_foreground: int
    ) -> tuple[Tensor, Tensor | None]:
        cells = head.cells(maps, image, head.weights(maps, boxes))
        vectors = attention_pool(cells, head.pool)
        if self.mask_head is None:
            return vectors, None
        return vectors, self.mask_head(cells[:num_foreground])[:, 0]

    def _freeze(self) -> None:
        """Leave gradients to the trained stages, the attention pool, the heads, and no norm."""
        self.requires_grad_(False)
        visual = self.encoder.visual
        stem = [visual.conv1, visual.conv2, visual.conv3]
        stages = [stem, *([getattr(visual, name)] for name in STAGES[1:])]
        trained = [module for stage in stages[self.config.freeze_at :] for module in stage]
        trained += [visual.attnpool, self.get_submodule("box_regressor")]
        trained += [] if self.mask_head is None else [self.mask_head]
        for module in trained:
            module.requires_grad_(True)
        for module in visual.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
        self._rows.requires_grad_(self.config.class_embeddings == "trained")


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    """All parts after one another; nothing, if there is none."""
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None


def _foreground_rows(regions: Sequence[LabelledRegions]) -> Tensor:
    """Positions of regions on objects among the regions of all images."""
    rows, start = [torch.zeros(0, dtype=torch.int64)], 0
    for own in regions:
        rows.append(torch.arange(start, start + own.num_foreground))
        start += len(own)
    return torch.cat(rows)
