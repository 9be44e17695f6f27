"""The baseline that CLIPSelf compares with: an image tower learns names that boxes were given.

    image -> dense map -> one vector per box -> cosine with some of the names -> loss

Source: CLIPSelf (arXiv:2310.01403), sec. 4, "RegionCLIP" in its tables: region-text alignment on
pseudo labels, without RegionCLIP's own losses and teacher.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from regionclip.data.sampling import mixed_seed
from regionclip.data.transforms import normalized
from regionclip.encoders.dense import DenseEncoder
from regionclip.encoders.unlocking import freeze_unread, logit_scale_of, unlock_last_groups
from regionclip.losses import LossSum, draw_classes, sampled_class_loss
from regionclip.losses.over_processes import sum_of_all
from regionclip.pairs import check_labels
from regionclip.regions.dense_regions import pool_boxes
from regionclip.structures import DetectionBatch
from regionclip.training.eval_mode import EvalModeLearner

from .training_config import PseudoLabelTraining


class PseudoLabelLearner(EvalModeLearner):
    """Learns an image tower from boxes with names that a model gave them.

    Everything computes as in ``eval`` mode.

    Attributes:
        encoder: Shared with its model and trained in place.
        class_embeddings: One row per name, of length one.
    """

    class_embeddings: Tensor

    def __init__(
        self,
        encoder: DenseEncoder,
        class_embeddings: Float[Tensor, "C D"],
        config: PseudoLabelTraining,
        *,
        seed: int = 0,
    ) -> None:
        """Freeze all but the last groups of the image tower.

        Args:
            encoder: Of which only the image tower learns.
            class_embeddings: One row per name, in the order of the labels, of any length.
            config: What to do.
            seed: Of the names that steps draw.

        Raises:
            ValueError: Rows are not as wide as the encoder's vectors.
        """
        super().__init__()
        if class_embeddings.shape[1] != encoder.embed_dim:
            raise ValueError(
                f"rows of names have {class_embeddings.shape[1]} numbers, vectors of regions "
                f"{encoder.embed_dim}; they have to be made with the model's own text tower"
            )
        self.encoder, self.config, self.seed = encoder, config, seed
        rows = F.normalize(class_embeddings.float(), dim=1).to(encoder.device)
        self.register_buffer("class_embeddings", rows, persistent=False)
        unlock_last_groups(encoder, config.unlocked_groups)
        freeze_unread(encoder)
        self.train()

    def forward(self, batch: DetectionBatch) -> dict[str, LossSum]:
        """The loss ``classes``: against names that are drawn for the step, in all processes alike.

        The original draws in each process from its own boxes' names.

        Raises:
            ValueError: A label is none of the names.
        """
        device = self.class_embeddings.device
        labels = torch.cat([each.labels for each in batch.targets]).to(device)
        check_labels(labels, len(self.class_embeddings))
        counts = torch.bincount(labels, minlength=len(self.class_embeddings)).float()
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, batch.step))
        sampled = draw_classes(
            sum_of_all(counts) > 0, count=self.config.classes_per_step, generator=generator
        )
        vectors = self.region_vectors(batch.images, [each.boxes for each in batch.targets])
        return {"classes": self.loss_of(vectors, labels, sampled)}

    def region_vectors(
        self, images: Sequence[Tensor], boxes: Sequence[Float[Tensor, "_ 4"]]
    ) -> Float[Tensor, "N D"]:
        """Vectors of boxes, image after image, not normalised.

        Args:
            images: RGB in [0, 1], all of one size; at least one.
            boxes: Per image, ``xyxy`` in its pixels; none is fine.
        """
        encoder, pixels = self.encoder, torch.stack(list(images))
        own = normalized(pixels.to(encoder.device), mean=encoder.mean, std=encoder.std)
        return pool_boxes(encoder.dense_features(own), boxes, cell=encoder.cell)

    def loss_of(
        self, vectors: Float[Tensor, "N D"], labels: Int[Tensor, " N"], sampled: Int[Tensor, " S"]
    ) -> LossSum:
        """What regions cost against some names."""
        with torch.autocast(vectors.device.type, enabled=False):
            cosines = F.normalize(vectors.float(), dim=1) @ self.class_embeddings[sampled].T
            scale = logit_scale_of(self.encoder).detach().exp()
            return sampled_class_loss(scale * cosines, labels, sampled)
