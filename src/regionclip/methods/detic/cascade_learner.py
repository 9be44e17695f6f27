"""Training of a cascade: boxes of base classes, captions, and the classes that captions name.

images with boxes -> pyramid -> cells judged -> loss
                             -> proposals -> paired with boxes -> stage 0 -> losses
                                          -> moved, paired anew -> stage 1 -> losses, ...
captioned images  -> pyramid -> tiles, and groups of them -> each stage -> against captions
                             -> largest proposals in tiles -> each stage -> against classes
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from regionclip.data.sampling import mixed_seed
from regionclip.detections.box_coder import nonempty
from regionclip.losses import (
    LossSum,
    box_l1_loss,
    draw_classes,
    mask_loss,
    sampled_class_loss,
)
from regionclip.losses.centers import CenterLoss, center_loss
from regionclip.losses.compositions import similarity_logits
from regionclip.losses.loss_sum import summed
from regionclip.losses.over_processes import sum_of_all
from regionclip.pairs import (
    LabelledRegions,
    Permutation,
    mask_targets,
    pair_regions,
    random_permutation,
)
from regionclip.pairs.boxes import foreground_rows, match_boxes
from regionclip.pairs.centers import center_targets
from regionclip.proposals.centernet import CenterLevel, boxes_around, select_centers
from regionclip.structures import DetectionBatch, Proposals, Targets, TiledBatch
from regionclip.training.eval_mode import EvalModeLearner
from regionclip.training.image_labels import CaptionTeacher, TagTeacher

from .cascade_config import BOX_WEIGHTS
from .cascade_heads import StageAnswers
from .cascade_model import CascadeDetic, move_boxes
from .cascade_training_config import CascadeTraining
from .learner import DeticBatch

CLASSES_STREAM, CAPTIONS_STREAM, TAGS_STREAM = 5, 3, 4
"""What is drawn for a picture or a step comes from generators of their own."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Pictures as the stages see them.

    Attributes:
        pyramids: One per picture.
        sizes_hw: Their sizes.
    """

    pyramids: list[list[Tensor]]
    sizes_hw: list[tuple[int, int]]


class CascadeLearner(EvalModeLearner):
    """Learns to propose, name, move and draw objects, and what captions say of regions.

    All batch norms are constants. Labels are positions in ``class_embeddings``, base classes only.

    Attributes:
        model: Shared; its text tower stays as it is.
        class_embeddings: One row per training class.
        class_weights: How likely each is drawn to be compared with.
        captions: Regions against captions; ``None`` where they teach nothing. Its queue is a buffer
            of this module.
        tags: Regions against the classes that captions name; ``None`` where they teach nothing.

    Source:
        Probabilistic two-stage detection (arXiv:2103.07461), sec. 4 to 6; Detic
        (arXiv:2201.02605), sec. 3; CLIM (arXiv:2312.11376), sec. 3.2.
    """

    class_embeddings: Tensor
    class_weights: Tensor

    def __init__(
        self,
        model: CascadeDetic,
        class_embeddings: Float[Tensor, "C D"],
        config: CascadeTraining,
        *,
        images_per_class: Float[Tensor, " C"],
        tag_embeddings: Float[Tensor, "K D"] | None = None,
        seed: int = 0,
        permutation_of: Callable[[int], Permutation] = random_permutation,
    ) -> None:
        """Freeze what does not learn.

        Args:
            model: Trained in place.
            class_embeddings: One row per training class, in the order of the labels.
            config: What to do.
            images_per_class: In how many training images each class occurs.
            tag_embeddings: One row per class that tags speak of.
            seed: Of the classes that are drawn, with each step's number.
            permutation_of: From an image's seed to the order in which its regions are drawn.

        Raises:
            ValueError: There is no class, rows are not as wide as the model's regions, tags are to
                be learned without rows for them, or masks without a mask head.
        """
        super().__init__()
        width = model.config.text.embed_dim
        if len(class_embeddings) == 0 or class_embeddings.shape[1] != width:
            raise ValueError(
                f"class embeddings are {tuple(class_embeddings.shape)}, expected at least one row "
                f"of {width} numbers; encode the names with this model's text tower"
            )
        if config.train_masks and model.mask_head is None:
            raise ValueError("train_masks needs a model with a mask head; set model.mask_head")
        self.model, self.config, self.permutation_of = model, config, permutation_of
        self.seed = seed
        rows = F.normalize(class_embeddings.detach().to(model.device).float(), dim=1)
        self.register_buffer("class_embeddings", rows, persistent=False)
        # the root of a class's number of images; Probabilistic two-stage detection, sec. 6.3
        self.register_buffer("class_weights", images_per_class.float().sqrt(), persistent=False)
        self.captions = self.tags = None
        if config.captions is not None:
            self.captions = CaptionTeacher(model.encoder, config.captions, width=width)
            self.caption_queue = self.captions.queue
        if config.tags is not None:
            if tag_embeddings is None:
                raise ValueError("tags are to be learned, and no class is given that they name")
            self.tags = TagTeacher(tag_embeddings.to(model.device).float(), config.tags)
        self._freeze()
        self.train()

    def _freeze(self) -> None:
        model = self.model
        model.requires_grad_(True)
        model.encoder.requires_grad_(False)
        for name, parameter in model.backbone.named_parameters():
            part = name.split(".")[0]
            stage = int(part.removeprefix("layer")) if part.startswith("layer") else 0
            parameter.requires_grad_(stage >= self.config.freeze_at)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
        if model.mask_head is not None:
            model.mask_head.requires_grad_(self.config.train_masks)

    @property
    def num_classes(self) -> int:
        """Training classes; the label of background."""
        return len(self.class_embeddings)

    def forward(self, batch: DeticBatch) -> dict[str, LossSum]:
        """Losses of boxes, and per stage and kind of pictures as ``captions_0_of_mosaics``.

        Raises:
            ValueError: An object's label is none of the training classes.
        """
        losses = self.box_losses(batch.detection)
        for kind, pictures in batch.pictures.items():
            for name, loss in self.picture_losses(pictures).items():
                losses[f"{name}_of_{kind}"] = loss
        return losses

    def see(self, images: Sequence[Tensor]) -> Seen:
        """The pyramids of images, each of them as if it were alone."""
        sizes = [(int(image.shape[1]), int(image.shape[2])) for image in images]
        return Seen(self.model.pyramids(images), sizes)

    def _judge(self, seen: Seen) -> list[list[CenterLevel]]:
        return [self.model.judge(levels) for levels in seen.pyramids]

    def box_losses(self, batch: DetectionBatch) -> dict[str, LossSum]:
        """``centers``, ``others``, ``reach``, ``masks``; per stage ``classes_*``, ``boxes_*``."""
        device = self.model.device
        targets = [
            Targets(own.boxes.to(device), own.labels.to(device), own.polygons)
            for own in batch.targets
        ]
        seen = self.see(batch.images)
        judged = self._judge(seen)
        losses = self.center_losses(judged, targets)
        regions = [
            pair_regions(
                own.boxes,
                target,
                num_classes=self.num_classes,
                permutation=self.permutation_of(seed),
                match_iou=self.config.match_ious[0],
                regions_per_image=self.config.regions_per_image,
                foreground_share=self.config.foreground_share,
            )
            for own, target, seed in zip(
                self._propose(judged, seen), targets, batch.seeds, strict=True
            )
        ]
        if self.config.train_masks:
            losses["masks"] = self._mask_loss(seen.pyramids, regions, targets)
        for stage, match_iou in enumerate(self.config.match_ious):
            if stage > 0:
                regions = [
                    self._relabelled(own.boxes, target, match_iou)
                    for own, target in zip(regions, targets, strict=True)
                ]
            answers = self.model.answer(stage, seen.pyramids, [own.boxes for own in regions])
            losses |= self.stage_losses(stage, answers, regions, targets, step=batch.step)
            boxes = move_boxes(stage, [own.boxes for own in regions], answers.deltas, seen.sizes_hw)
            regions = [
                LabelledRegions(moved, own.labels, own.target_index, own.num_foreground)
                for moved, own in zip(boxes, regions, strict=True)
            ]
        return losses

    def center_losses(
        self, judged: Sequence[Sequence[CenterLevel]], targets: Sequence[Targets]
    ) -> dict[str, LossSum]:
        """What the judgement of the cells of each image costs."""
        found = [
            self._center_loss(levels, own.boxes)
            for levels, own in zip(judged, targets, strict=True)
        ]
        return {
            "centers": summed([own.centers for own in found]),
            "others": summed([own.others for own in found]),
            "reach": summed([own.boxes for own in found]),
        }

    def _center_loss(self, levels: Sequence[CenterLevel], objects: Tensor) -> CenterLoss:
        points, strides = [own.points for own in levels], [own.stride for own in levels]
        boxes = [boxes_around(own.points, own.distances) for own in levels]
        return center_loss(
            torch.cat([own.logits for own in levels], dim=1),
            torch.cat(boxes, dim=1),
            [objects],
            [center_targets(points, strides, objects)],
            options=self.config.centers,
        )

    @torch.no_grad()
    def _propose(self, judged: Sequence[Sequence[CenterLevel]], seen: Seen) -> list[Proposals]:
        found = []
        for levels, size_hw in zip(judged, seen.sizes_hw, strict=True):
            found += select_centers(levels, size_hw, self.config.proposals)
        return found

    def _relabelled(self, boxes: Tensor, targets: Targets, match_iou: float) -> LabelledRegions:
        """All regions that a stage left, with the labels that the next one has them learn."""
        boxes = boxes[nonempty(boxes)]
        labels, index = match_boxes(
            boxes, targets, background_label=self.num_classes, match_iou=match_iou
        )
        is_object = labels < self.num_classes
        rows = torch.cat([is_object.nonzero()[:, 0], (~is_object).nonzero()[:, 0]])
        return LabelledRegions(boxes[rows], labels[rows], index[rows], int(is_object.sum()))

    def stage_losses(
        self,
        stage: int,
        answers: StageAnswers,
        regions: Sequence[LabelledRegions],
        targets: Sequence[Targets],
        *,
        step: int,
    ) -> dict[str, LossSum]:
        """What names and offsets of a stage's regions cost.

        Names are compared with some classes: those of the regions, in all processes, and others
        that are drawn for the step and stage, in all processes alike.
        """
        labels = torch.cat([own.labels for own in regions])
        counts = torch.bincount(labels, minlength=self.num_classes + 1)[:-1].float()
        seed = mixed_seed(mixed_seed(self.seed, CLASSES_STREAM + step), stage)
        sampled = draw_classes(
            sum_of_all(counts) > 0,
            count=self.config.classes_per_step,
            generator=torch.Generator().manual_seed(seed),
            weights=self.class_weights,
        )
        logits = similarity_logits(
            answers.embeddings,
            self.class_embeddings[sampled],
            scale=self.model.config.similarity_scale,
        )
        foreground = foreground_rows(regions).to(labels.device)
        objects = [
            each.boxes[own.target_index[: own.num_foreground]]
            for own, each in zip(regions, targets, strict=True)
        ]
        return {
            f"classes_{stage}": sampled_class_loss(logits, labels, sampled),
            f"boxes_{stage}": box_l1_loss(
                answers.deltas[foreground],
                torch.cat([own.boxes[: own.num_foreground] for own in regions]),
                torch.cat(objects),
                num_sampled=len(labels),
                weights=BOX_WEIGHTS[stage],
            ),
        }

    def _mask_loss(
        self,
        pyramids: Sequence[Sequence[Tensor]],
        regions: Sequence[LabelledRegions],
        targets: Sequence[Targets],
    ) -> LossSum:
        cells = self.model.cells(pyramids, [own.boxes[: own.num_foreground] for own in regions])
        logits = self.model.get_submodule("mask_head")(cells)[:, 0]
        grid = int(logits.shape[-1])
        wanted = [
            mask_targets(own, each, grid=grid) for own, each in zip(regions, targets, strict=True)
        ]
        return mask_loss(logits, torch.cat(wanted))

    def picture_losses(self, batch: TiledBatch) -> dict[str, LossSum]:
        """Per stage ``captions_*`` and ``tags_*``, those that are learned."""
        seen, losses = self.see(batch.images), {}
        if self.captions is not None:
            losses |= self.caption_losses(seen, batch)
        if self.tags is not None:
            with torch.no_grad():
                judged = self._judge(seen)
            losses |= self.tag_losses(seen, batch, self._propose(judged, seen))
        return losses

    def caption_losses(self, seen: Seen, batch: TiledBatch) -> dict[str, LossSum]:
        """Every stage looks at the tiles as they are, and at groups drawn for it alone."""
        teacher, losses = self.captions, {}
        if teacher is None:
            return losses
        tiles, chances = batch.tiles, _chances(batch.seeds, CAPTIONS_STREAM)
        captions = teacher.encode(tiles)
        for stage in range(len(BOX_WEIGHTS)):
            regions = teacher.regions(tiles, chances, device=self.model.device)
            vectors = self.model.answer(stage, seen.pyramids, regions.boxes).embeddings
            losses[f"captions_{stage}"] = teacher.loss(vectors, regions, captions, bias=0.0)
        teacher.remember(captions)
        return losses

    def tag_losses(
        self, seen: Seen, batch: TiledBatch, proposals: Sequence[Proposals]
    ) -> dict[str, LossSum]:
        """Every stage takes the largest of some boxes in each tile, and groups of these.

        The first stage takes them of the proposals, each later one of the few regions, groups too,
        that the stage before looked at, as that stage moved them.

        Source:
            wusize/CLIM@7baade3, whose losses at all three stages this gives.
        """
        teacher, losses = self.tags, {}
        if teacher is None:
            return losses
        tiles, chances = batch.tiles, _chances(batch.seeds, TAGS_STREAM)
        for stage in range(len(BOX_WEIGHTS)):
            regions = teacher.regions(tiles, proposals, chances)
            answers = self.model.answer(stage, seen.pyramids, regions.boxes)
            losses[f"tags_{stage}"] = teacher.loss(answers.embeddings, regions, tiles, bias=0.0)
            moved = move_boxes(stage, regions.boxes, answers.deltas, seen.sizes_hw)
            proposals = [Proposals(own) for own in moved]
        return losses


def _chances(seeds: Sequence[int], stream: int) -> list[Random]:
    """One per picture, fixed by its seed; streams draw differently."""
    return [Random(mixed_seed(seed, stream)) for seed in seeds]
