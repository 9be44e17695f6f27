"""Training of a Detic: boxes of base classes, captions, and the classes that captions name.

images with boxes -> map -> anchors judged -> proposals -> paired with boxes -> losses
captioned images  -> map -> tiles, and groups of them  -> against captions   -> loss
-> largest proposals in tiles -> against classes    -> loss
mosaics of captioned images: the same
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from regionclip.data.sampling import mixed_seed
from regionclip.detections.box_coder import REGION_BOX_WEIGHTS
from regionclip.losses import LossSum, box_l1_loss, rpn_loss, sampled_class_loss
from regionclip.losses.compositions import similarity_logits
from regionclip.losses.loss_sum import summed
from regionclip.pairs import LabelledRegions, Permutation, pair_regions, random_permutation
from regionclip.pairs.boxes import foreground_rows
from regionclip.proposals.rpn import RpnLevel
from regionclip.structures import DetectionBatch, Proposals, Targets, TiledBatch
from regionclip.training.eval_mode import EvalModeLearner
from regionclip.training.image_labels import CaptionTeacher, TagTeacher

from .model import Detic
from .training_config import DeticTraining


@dataclass(frozen=True, slots=True)
class DeticBatch:
    """One step's input.

    Attributes:
        detection: Images with boxes.
        pictures: Captioned images by the end of the names of their losses: ``images`` and
            ``mosaics``; none where only boxes teach.
    """

    detection: DetectionBatch
    pictures: dict[str, TiledBatch]


class DeticLearner(EvalModeLearner):
    """Learns to propose, name and move objects, and what captions say of regions.

    All batch norms are constants, as in the original. Labels are positions in
    ``class_embeddings``, base classes only.

    Attributes:
        model: Shared; its text tower stays as it is.
        class_embeddings: One row per training class.
        captions: Regions against captions; ``None`` where they teach nothing. Its queue is a buffer
            of this module.
        tags: Regions against the classes that captions name; ``None`` where they teach nothing.

    Source:
        Detic (arXiv:2201.02605), sec. 3; CLIM (arXiv:2312.11376), sec. 3.2.
    """

    class_embeddings: Tensor

    def __init__(
        self,
        model: Detic,
        class_embeddings: Float[Tensor, "C D"],
        config: DeticTraining,
        *,
        tag_embeddings: Float[Tensor, "K D"] | None = None,
        permutation_of: Callable[[int], Permutation] = random_permutation,
    ) -> None:
        """Freeze what does not learn.

        Args:
            model: Trained in place.
            class_embeddings: One row per training class, in the order of the labels.
            config: What to do.
            tag_embeddings: One row per class that tags speak of.
            permutation_of: From an image's seed to the order in which its anchors, then its
                regions are drawn.

        Raises:
            ValueError: There is no class, rows are not as wide as the model's regions, or tags are
                to be learned without rows for them.
        """
        super().__init__()
        width = model.config.text.embed_dim
        if len(class_embeddings) == 0 or class_embeddings.shape[1] != width:
            raise ValueError(
                f"class embeddings are {tuple(class_embeddings.shape)}, expected at least one row "
                f"of {width} numbers; encode the names with this model's text tower"
            )
        self.model, self.config, self.permutation_of = model, config, permutation_of
        rows = F.normalize(class_embeddings.detach().to(model.device).float(), dim=1)
        self.register_buffer("class_embeddings", rows, persistent=False)
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
        for name, parameter in model.proposer.backbone.named_parameters():
            part = name.split(".")[0]
            stage = int(part.removeprefix("layer")) if part.startswith("layer") else 0
            parameter.requires_grad_(stage >= self.config.freeze_at)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
        # what no loss reads has no gradient that processes could wait for
        model.caption_bias.requires_grad_(self.captions is not None)
        model.tag_bias.requires_grad_(self.tags is not None)

    @property
    def num_classes(self) -> int:
        """Training classes; the label of background."""
        return len(self.class_embeddings)

    def forward(self, batch: DeticBatch) -> dict[str, LossSum]:
        """Losses of boxes, and per kind of pictures such as ``captions_of_mosaics``.

        Raises:
            ValueError: An object's label is none of the training classes.
        """
        losses = self.box_losses(batch.detection)
        for kind, pictures in batch.pictures.items():
            for name, loss in self.picture_losses(pictures).items():
                losses[f"{name}_of_{kind}"] = loss
        return losses

    def box_losses(self, batch: DetectionBatch) -> dict[str, LossSum]:
        """``objectness``, ``anchors``, ``classes`` and ``boxes``."""
        model = self.model
        targets = [
            Targets(own.boxes.to(model.device), own.labels.to(model.device))
            for own in batch.targets
        ]
        permutations = [self.permutation_of(seed) for seed in batch.seeds]
        maps = model.maps(batch.images)
        judged = [model.judge(own) for own in maps]
        losses = self._anchor_losses(judged, targets, permutations)
        regions = [
            pair_regions(
                own.boxes,
                target,
                num_classes=self.num_classes,
                permutation=permutation,
                match_iou=self.config.match_iou,
                regions_per_image=self.config.regions_per_image,
                foreground_share=self.config.foreground_share,
            )
            for own, target, permutation in zip(
                self._propose(judged, batch.images), targets, permutations, strict=True
            )
        ]
        return losses | self._region_losses(maps, regions, targets)

    def _propose(self, judged: Sequence[RpnLevel], images: Sequence[Tensor]) -> list[Proposals]:
        sizes = [(int(image.shape[1]), int(image.shape[2])) for image in images]
        return [
            self.model.propose(own, size, self.config.proposals)
            for own, size in zip(judged, sizes, strict=True)
        ]

    def _anchor_losses(
        self,
        judged: Sequence[RpnLevel],
        targets: Sequence[Targets],
        permutations: Sequence[Permutation],
    ) -> dict[str, LossSum]:
        found = [
            rpn_loss(
                own.logits,
                own.deltas,
                own.anchors,
                [target.boxes],
                permutations=[permutation],
                options=self.config.anchors,
            )
            for own, target, permutation in zip(judged, targets, permutations, strict=True)
        ]
        return {
            "objectness": summed([own.objectness for own in found]),
            "anchors": summed([own.boxes for own in found]),
        }

    def _region_losses(
        self,
        maps: Sequence[Tensor],
        regions: Sequence[LabelledRegions],
        targets: Sequence[Targets],
    ) -> dict[str, LossSum]:
        """What names and offsets of regions cost: each class by itself, a mean over regions."""
        model = self.model
        answers = model.answer(maps, [own.boxes for own in regions])
        labels = torch.cat([own.labels for own in regions])
        scale = model.config.similarity_scale
        logits = similarity_logits(answers.embeddings, self.class_embeddings, scale=scale)
        classes = torch.arange(self.num_classes, device=labels.device)
        foreground = foreground_rows(regions).to(labels.device)
        objects = [
            each.boxes[own.target_index[: own.num_foreground]]
            for own, each in zip(regions, targets, strict=True)
        ]
        return {
            "classes": sampled_class_loss(logits + model.class_bias, labels, classes),
            "boxes": box_l1_loss(
                answers.deltas[foreground],
                torch.cat([own.boxes[: own.num_foreground] for own in regions]),
                torch.cat(objects),
                num_sampled=len(labels),
                weights=REGION_BOX_WEIGHTS,
            ),
        }

    def picture_losses(self, batch: TiledBatch) -> dict[str, LossSum]:
        """``captions`` and ``tags``, those that are learned."""
        model, tiles = self.model, batch.tiles
        maps = model.maps(batch.images)
        losses = {}
        if self.captions is not None:
            regions = self.captions.regions(tiles, _chances(batch.seeds, 3), device=model.device)
            captions = self.captions.encode(tiles)
            vectors = model.embed(maps, regions.boxes)
            bias = model.caption_bias[0]
            losses["captions"] = self.captions.loss(vectors, regions, captions, bias=bias)
            self.captions.remember(captions)
        if self.tags is not None:
            with torch.no_grad():
                judged = [model.judge(own) for own in maps]
            proposals = self._propose(judged, batch.images)
            regions = self.tags.regions(tiles, proposals, _chances(batch.seeds, 4))
            vectors = model.embed(maps, regions.boxes)
            losses["tags"] = self.tags.loss(vectors, regions, tiles, bias=model.tag_bias[0])
        return losses


def _chances(seeds: Sequence[int], stream: int) -> list[Random]:
    """One per picture, fixed by its seed; streams draw differently."""
    return [Random(mixed_seed(seed, stream)) for seed in seeds]
