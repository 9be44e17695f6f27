"""Training of the detector on a frozen CLIP: boxes of base classes.

images -> frozen maps -> scales -> pyramid -> anchors judged -> loss
                                            -> proposals -> paired with the boxes -> box head
                                               (and mask head) -> losses
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from regionclip.detections.box_coder import REGION_BOX_WEIGHTS
from regionclip.losses import (
    LossSum,
    box_l1_loss,
    focal_scaled_cross_entropy,
    mask_loss,
    rpn_loss,
)
from regionclip.pairs import (
    LabelledRegions,
    Permutation,
    mask_targets,
    pair_regions,
    random_permutation,
)
from regionclip.pairs.boxes import foreground_rows
from regionclip.proposals.rpn import RpnLevel
from regionclip.structures import DetectionBatch, Targets

from .heads import RegionAnswers
from .model import Fvit
from .scores import detector_logits
from .training_config import FvitTraining


class FvitLearner(nn.Module):
    """Learns to propose, name, move and draw objects of base classes.

    There is no column for a class that is not trained: the original has columns for novel classes
    and sets their logits to minus infinity, which is the same number. Labels are positions in
    ``class_embeddings``, and any other number is refused.

    Attributes:
        model: Shared; its CLIP stays as it is.
        class_embeddings: One row per training class, of length one.

    Source:
        F-VLM (arXiv:2209.15639), sec. 3.2; F-ViT: CLIPSelf (arXiv:2310.01403), sec. 4.2.
    """

    class_embeddings: Tensor

    def __init__(
        self,
        model: Fvit,
        class_embeddings: Float[Tensor, "C D"],
        config: FvitTraining,
        *,
        permutation_of: Callable[[int], Permutation] = random_permutation,
    ) -> None:
        """Freeze what does not learn.

        Args:
            model: Trained in place.
            class_embeddings: One row per training class, in the order of the labels, of any length.
            config: What to do.
            permutation_of: From an image's seed to the order in which its anchors, then its
                regions are drawn.

        Raises:
            ValueError: There is no class, rows are not as wide as the model's regions, or masks
                are to be learned by a model that has no mask head.
        """
        super().__init__()
        width = model.tower.embed_dim
        if len(class_embeddings) == 0 or class_embeddings.shape[1] != width:
            raise ValueError(
                f"class embeddings are {tuple(class_embeddings.shape)}, expected at least one row "
                f"of {width} numbers; encode the names with this model's text tower"
            )
        if config.train_masks and model.mask_head is None:
            raise ValueError("train_masks needs a model with a mask head; set model.mask_head")
        self.model, self.config, self.permutation_of = model, config, permutation_of
        rows = F.normalize(class_embeddings.detach().to(model.device).float(), dim=1)
        self.register_buffer("class_embeddings", rows, persistent=False)
        model.requires_grad_(True)
        model.encoder.requires_grad_(False)
        model.background.requires_grad_(model.config.background == "learned")
        if model.mask_head is not None:
            model.mask_head.requires_grad_(config.train_masks)

    @property
    def num_classes(self) -> int:
        """Training classes; the label of background."""
        return len(self.class_embeddings)

    def forward(self, batch: DetectionBatch) -> dict[str, LossSum]:
        """Losses ``objectness``, ``anchors``, ``classes``, ``boxes``, and ``masks`` if learned.

        Images of a batch are padded to one square and share the statistics of batch norms.

        Raises:
            ValueError: An object's label is none of the training classes.
        """
        model, device = self.model, self.model.device
        targets = [
            Targets(own.boxes.to(device), own.labels.to(device), own.polygons)
            for own in batch.targets
        ]
        permutations = [self.permutation_of(seed) for seed in batch.seeds]
        levels = model.levels(model.maps(model.prepare(batch.images)))
        judged = model.judge(levels)
        losses = self.anchor_losses(judged, targets, permutations)
        sizes = [(int(image.shape[1]), int(image.shape[2])) for image in batch.images]
        proposals = [own.boxes for own in model.propose(judged, sizes)]
        regions = self.pair(proposals, targets, permutations)
        answers = model.answer(levels, [own.boxes for own in regions])
        losses |= self.region_losses(answers, regions, targets)
        if self.config.train_masks:
            losses["masks"] = self._mask_loss(levels, regions, targets)
        return losses

    def anchor_losses(
        self,
        judged: Sequence[RpnLevel],
        targets: Sequence[Targets],
        permutations: Sequence[Permutation],
    ) -> dict[str, LossSum]:
        """What the judgement of anchors costs."""
        loss = rpn_loss(
            torch.cat([level.logits for level in judged], dim=1),
            torch.cat([level.deltas for level in judged], dim=1),
            torch.cat([level.anchors for level in judged]),
            [own.boxes for own in targets],
            permutations=permutations,
            options=self.config.anchors,
        )
        return {"objectness": loss.objectness, "anchors": loss.boxes}

    def pair(
        self,
        proposals: Sequence[Tensor],
        targets: Sequence[Targets],
        permutations: Sequence[Permutation],
    ) -> list[LabelledRegions]:
        """Label proposals and draw those that enter the losses.

        Raises:
            ValueError: An object's label is none of the training classes.
        """
        config = self.config
        return [
            pair_regions(
                boxes,
                own,
                num_classes=self.num_classes,
                permutation=permutation,
                match_iou=config.match_iou,
                regions_per_image=config.regions_per_image,
                foreground_share=config.foreground_share,
            )
            for boxes, own, permutation in zip(proposals, targets, permutations, strict=True)
        ]

    def region_losses(
        self,
        answers: RegionAnswers,
        regions: Sequence[LabelledRegions],
        targets: Sequence[Targets],
    ) -> dict[str, LossSum]:
        """What names and offsets of regions cost: a mean over regions, whatever their weights."""
        model = self.model
        labels = torch.cat([own.labels for own in regions])
        logits = detector_logits(
            answers.embeddings,
            self.class_embeddings,
            model.background,
            scale=model.box_head.similarity_scale,
        )
        foreground = foreground_rows(regions).to(labels.device)
        objects = [
            each.boxes[own.target_index[: own.num_foreground]]
            for own, each in zip(regions, targets, strict=True)
        ]
        return {
            "classes": focal_scaled_cross_entropy(
                logits, labels, gamma=0.0, background_weight=self.config.background_weight
            ),
            "boxes": box_l1_loss(
                answers.deltas[foreground],
                torch.cat([own.boxes[: own.num_foreground] for own in regions]),
                torch.cat(objects),
                num_sampled=len(labels),
                weights=REGION_BOX_WEIGHTS,
            ),
        }

    def _mask_loss(
        self,
        levels: Sequence[Tensor],
        regions: Sequence[LabelledRegions],
        targets: Sequence[Targets],
    ) -> LossSum:
        cells = self.model.cells(levels, [own.boxes[: own.num_foreground] for own in regions])
        logits = self.model.get_submodule("mask_head")(cells)[:, 0]
        grid = int(logits.shape[-1])
        wanted = [
            mask_targets(own, each, grid=grid) for own, each in zip(regions, targets, strict=True)
        ]
        return mask_loss(logits, torch.cat(wanted))
