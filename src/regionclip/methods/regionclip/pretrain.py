"""Region-text pretraining: a student learns from captions alone what regions show.

    images -> proposals -> some regions -> teacher (frozen) -> the concepts that it sees in them
    images -> student -> vectors of the same regions, and of the whole images
           -> against the concepts, and against the captions -> losses

Source: RegionCLIP (arXiv:2112.09106), sec. 3; microsoft/RegionCLIP@4b8513b
``detectron2/modeling/meta_arch/clip_rcnn.py:PretrainFastRCNN``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from regionclip.encoders.text import without_padding
from regionclip.encoders.unlocking import module_of
from regionclip.losses import (
    LossSum,
    concept_contrastive_loss,
    concept_distillation_loss,
    image_text_loss,
)
from regionclip.pairs import (
    Permutation,
    RegionConcepts,
    caption_id,
    match_regions_to_concepts,
    random_permutation,
)
from regionclip.proposals.proposer import Proposer
from regionclip.regions.embedder import RegionEmbedder, embed_regions
from regionclip.scoring.cosine import TEMPERATURE, class_logits
from regionclip.structures import CaptionedBatch, PreparedImage, Proposals
from regionclip.training.eval_mode import EvalModeLearner

from .pretrain_config import PretrainConfig
from .students import Student, StudentOutputs


@dataclass(frozen=True, slots=True)
class Teacher:
    """What tells a student what regions show; of any architecture, frozen.

    Attributes:
        regions: Its image tower; ``None`` if it looked at the regions before, so that its vectors
            come with the proposals of each batch.
        concept_embeddings: The concepts in its own joint space, in the order of the student's.
    """

    regions: RegionEmbedder | None
    concept_embeddings: Float[Tensor, "C D"]


class PretrainLearner(EvalModeLearner):
    """Learns an image tower from images with captions.

    Everything computes as in ``eval`` mode also while training: batch norms are constants. The text
    tower is frozen, so that names keep their vectors.

    Attributes:
        student: What is trained.
        encoder: Its towers, shared with their model.
        concept_embeddings: In the student's joint space; not part of the state.
    """

    def __init__(
        self,
        student: Student,
        concept_embeddings: Float[Tensor, "C D"],
        teacher: Teacher,
        proposer: Proposer | None,
        config: PretrainConfig,
        *,
        permutation_of: Callable[[int], Permutation] = random_permutation,
    ) -> None:
        """Freeze what stays as it is.

        Args:
            student: Changed in place by training.
            concept_embeddings: One row per concept, of any length.
            teacher: Frozen; not part of the state, and on its own device.
            proposer: Regions of batches that come without; ``None`` if all come with some.
            config: What to do.
            permutation_of: From an image's seed to the order in which its regions are drawn.

        Raises:
            ValueError: The concepts of student and teacher are not the same number, or not as wide
                as the student's regions.
        """
        super().__init__()
        width = student.embed_dim
        if concept_embeddings.shape[1] != width:
            raise ValueError(
                f"concepts are {concept_embeddings.shape[1]} numbers wide, regions of "
                f"{student.name} {width}; make the pool with the student's text tower"
            )
        if len(teacher.concept_embeddings) != len(concept_embeddings):
            raise ValueError(
                f"the student has {len(concept_embeddings)} concepts, the teacher "
                f"{len(teacher.concept_embeddings)}; both need the same pool"
            )
        self.student, self.config = student, config
        self.encoder = module_of(student.encoder)
        # no buffer: processes would send it to each other at every step
        self.concept_embeddings = concept_embeddings.to(student.device)
        self.teacher = replace(
            teacher, concept_embeddings=teacher.concept_embeddings.to(student.device)
        )
        self.proposer = (proposer,)  # no submodule: it is neither trained nor saved
        self.permutation_of = permutation_of
        self.requires_grad_(False)
        student.unfreeze()
        self.train()

    def forward(self, batch: CaptionedBatch) -> dict[str, LossSum]:
        """Losses by name: those of ``config.losses``."""
        if self.config.losses == ("image_text",):
            nothing = [torch.zeros(0, 4, device=self.student.device)] * len(batch.images)
            whole = self.outputs(batch.images, nothing)
            return {"image_text": self.image_text_loss(whole, batch.captions)}
        drawn = self.draw_regions(batch)
        outputs = self.outputs(batch.images, [own.boxes for own in drawn])
        losses = self.region_losses(outputs, self.match(batch, drawn))
        if "image_text" in self.config.losses:
            losses["image_text"] = self.image_text_loss(outputs, batch.captions)
        return losses

    @torch.no_grad()
    def draw_regions(self, batch: CaptionedBatch) -> list[Proposals]:
        """Some regions of each image, in its pixels.

        Raises:
            ValueError: The batch comes without proposals, and nothing proposes any.
        """
        proposals = batch.proposals
        if proposals is None:
            (proposer,) = self.proposer
            if proposer is None:
                raise ValueError(
                    f"{batch.names[0]} comes without proposals and nothing proposes any; give the "
                    "learner a proposer"
                )
            proposals = proposer.propose(_prepared(batch))
        drawn = []
        for own, seed in zip(proposals, batch.seeds, strict=True):
            order = self.permutation_of(seed)(len(own))[: self.config.regions_per_image]
            drawn.append(own.select(order).to(self.student.device))
        return drawn

    def outputs(
        self, images: Sequence[Tensor], boxes: Sequence[Float[Tensor, "_ 4"]]
    ) -> StudentOutputs:
        """Run the student on whole images ``(3, H, W)``, RGB in [0, 1], and on regions of them."""
        return self.student.outputs(images, boxes)

    def match(self, batch: CaptionedBatch, drawn: Sequence[Proposals]) -> RegionConcepts:
        """What the teacher sees in regions of the batch's images."""
        return match_regions_to_concepts(
            self.teacher_features(batch, drawn),
            self.teacher.concept_embeddings,
            min_score=self.config.min_concept_score,
        )

    def teacher_features(
        self, batch: CaptionedBatch, drawn: Sequence[Proposals]
    ) -> Float[Tensor, "N D"]:
        """The teacher's vectors of regions, image after image: those stored, or new ones.

        Raises:
            ValueError: They should be stored, and an image comes without.
        """
        if self.teacher.regions is None:
            return torch.cat(
                [_stored(own, name) for own, name in zip(drawn, batch.names, strict=True)]
            )
        with torch.inference_mode():
            vectors = embed_regions(
                self.teacher.regions,
                _prepared(batch),
                [own.boxes for own in drawn],
                groups=self.student.groups(batch.images),
            )
        # a copy: tensors made under inference mode cannot enter a loss
        return torch.cat(vectors).clone()

    def region_losses(self, outputs: StudentOutputs, pairs: RegionConcepts) -> dict[str, LossSum]:
        """What the regions that the teacher is sure of cost, by name."""
        logits = class_logits(outputs.regions[pairs.kept], self.concept_embeddings)
        losses = {}
        if "distillation" in self.config.losses:
            losses["distillation"] = concept_distillation_loss(logits, pairs.scores)
        if "contrastive" in self.config.losses:
            losses["contrastive"] = concept_contrastive_loss(logits, pairs.targets)
        return losses

    def image_text_loss(self, outputs: StudentOutputs, captions: Sequence[str]) -> LossSum:
        """What the images cost against their captions."""
        with torch.no_grad():
            encoder = self.student.encoder
            is_original = self.config.long_captions == "lose_end"
            tokenize = encoder.first_tokens if is_original else encoder.tokenize
            texts = encoder.encode_tokens(without_padding(tokenize(captions)))
        ids = torch.tensor([caption_id(each) for each in captions], device=texts.device)
        return image_text_loss(outputs.images, texts, ids, temperature=TEMPERATURE)


def _prepared(batch: CaptionedBatch) -> list[PreparedImage]:
    return [
        PreparedImage(image, original_size_hw=(int(image.shape[1]), int(image.shape[2])), name=name)
        for image, name in zip(batch.images, batch.names, strict=True)
    ]


def _stored(drawn: Proposals, name: str) -> Float[Tensor, "R D"]:
    if drawn.features is None:
        raise ValueError(
            f"{name} comes without the teacher's vectors, and no teacher runs; give the learner a "
            "teacher's image tower, or proposals with features"
        )
    return drawn.features.float()
