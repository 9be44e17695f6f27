"""Transfer learning: a pretrained recogniser learns boxes of base classes on frozen proposals.

    images -> proposer (frozen) -> proposals -> paired with the boxes -> sampled regions
    images -> stem, layer1 (frozen) -> layer2, layer3 -> ROIAlign -> layer4 -> attention pool
           -> cosine with class embeddings (frozen), box offsets, masks -> losses

Source: RegionCLIP (arXiv:2112.09106), transfer to open-vocabulary detection;
microsoft/RegionCLIP@4b8513b ``detectron2/modeling/roi_heads/clip_roi_heads.py``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from regionclip.detections.box_coder import REGION_BOX_WEIGHTS
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
from regionclip.pairs.boxes import foreground_rows, in_chunks
from regionclip.proposals.proposer import Proposer
from regionclip.regions.attention_pool import attention_pool
from regionclip.regions.region_head import ImageRegions, LiftedMaps, RegionHead
from regionclip.scoring.cosine import class_logits
from regionclip.structures import DetectionBatch, PreparedImage, Targets
from regionclip.training.eval_mode import EvalModeLearner

from .model import RegionClip, add_detection_heads
from .training_regions import maps_of_images, unfreeze, with_key_bias
from .transfer_config import TransferConfig


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


class TransferLearner(EvalModeLearner):
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
            proposer: Looks at images at the training size, which are called ``image 0``,
                ``image 1`` and so on: one that finds boxes by a file's name is of no use, since
                images were cropped and flipped. A network is frozen here.
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
        head = RegionHead(self.encoder.visual)
        maps = maps_of_images(self.encoder, head, images, batching=self.config.image_batching)
        budget = self.config.activation_budget
        total = sum(len(own) for own in regions)
        size = max(1, total if budget is None else budget // head.kept_bytes)
        features, masks = [], []
        for chunk in in_chunks(regions, size):
            parts = [(*maps[row], own) for row, own in chunk] or [(*maps[0], regions[0])]
            if budget is None:
                vectors, mask_logits = self._embed(head, parts)
            else:
                vectors, mask_logits = checkpoint(self._embed, head, parts, use_reentrant=False)
            features.append(vectors.float())
            masks += [] if mask_logits is None else [mask_logits]
        vectors = with_key_bias(torch.cat(features), head)
        with torch.autocast(vectors.device.type, enabled=False):
            deltas = self.get_submodule("box_regressor")(vectors)
        logits = class_logits(
            vectors,
            self._rows,
            temperature=self.temperature,
            background_embedding=vectors.new_zeros(vectors.shape[1]),
        )
        return RegionOutputs(logits, deltas, torch.cat(masks) if masks else None)

    def losses(
        self,
        outputs: RegionOutputs,
        regions: Sequence[LabelledRegions],
        targets: Sequence[Targets],
    ) -> dict[str, LossSum]:
        """What the outputs cost, by name."""
        labels = torch.cat([own.labels for own in regions])
        boxes = torch.cat([own.boxes[: own.num_foreground] for own in regions])
        foreground = foreground_rows(regions).to(labels.device)
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

    def _embed(
        self, head: RegionHead, parts: Sequence[tuple[LiftedMaps, int, LabelledRegions]]
    ) -> tuple[Tensor, Tensor | None]:
        """Vectors of regions, and mask logits of those on objects."""
        cells = head.cells(
            [ImageRegions(maps, image, head.weights(maps, own.boxes)) for maps, image, own in parts]
        )
        vectors = attention_pool(cells, head.pool)
        if self.mask_head is None:
            return vectors, None
        foreground = foreground_rows([own for _, _, own in parts]).to(cells.device)
        return vectors, self.mask_head(cells[foreground])[:, 0]

    def _freeze(self) -> None:
        """Leave gradients to the trained stages, the attention pool, the heads, and no norm."""
        self.requires_grad_(False)
        heads = [self.get_submodule("box_regressor")]
        heads += [] if self.mask_head is None else [self.mask_head]
        unfreeze(self.encoder.visual, heads, freeze_at=self.config.freeze_at)
        self._rows.requires_grad_(self.config.class_embeddings == "trained")
