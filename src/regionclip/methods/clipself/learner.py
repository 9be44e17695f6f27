"""CLIPSelf: an image tower teaches its dense map what it knows of whole pictures.

    image -> student -> dense map -> one vector per region  -> cosine -> loss
    crops of the same regions -> teacher (frozen) -> one vector each ->

Teacher and student begin as the same tower. No text, no label, no caption.

Source: CLIPSelf (arXiv:2310.01403), sec. 3.2.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from regionclip.data.sampling import mixed_seed
from regionclip.data.transforms import normalized
from regionclip.encoders.dense import DenseEncoder
from regionclip.encoders.unlocking import freeze_unread, module_of, unlock_last_groups
from regionclip.losses import LossSum, cosine_distillation_loss
from regionclip.regions.dense_regions import pool_boxes
from regionclip.structures import CropBatch
from regionclip.training.eval_mode import EvalModeLearner

from .training_config import ClipSelfTraining


class ClipSelfLearner(EvalModeLearner):
    """Learns an image tower from images alone.

    Everything computes as in ``eval`` mode.

    Attributes:
        encoder: The student, shared with its model and trained in place.
    """

    def __init__(
        self,
        encoder: DenseEncoder,
        teacher: DenseEncoder,
        config: ClipSelfTraining,
        *,
        seed: int = 0,
    ) -> None:
        """Freeze the teacher, and all but the last groups of the student's image tower.

        Args:
            encoder: The student.
            teacher: A copy of what the student begins as, or another tower of the same width, on
                the same device; not part of the state.
            config: What to do.
            seed: Of the sizes that steps draw.

        Raises:
            ValueError: Their vectors are of different widths.
        """
        super().__init__()
        if teacher.embed_dim != encoder.embed_dim:
            raise ValueError(
                f"the teacher's vectors have {teacher.embed_dim} numbers, the student's "
                f"{encoder.embed_dim}; the teacher has to be of the student's joint space"
            )
        self.encoder, self.config, self.seed = encoder, config, seed
        module_of(teacher).requires_grad_(False).eval()
        self._teacher = (teacher,)  # no submodule: it is neither trained nor saved
        unlock_last_groups(encoder, config.unlocked_groups)
        freeze_unread(encoder)
        self.train()

    def forward(self, batch: CropBatch) -> dict[str, LossSum]:
        """The loss ``cosine``: of each region's two vectors, a mean over regions."""
        student = self.region_vectors(batch)
        return {"cosine": cosine_distillation_loss(student, self.teacher_vectors(batch.crops))}

    def region_vectors(self, batch: CropBatch) -> Float[Tensor, "N D"]:
        """The student's vectors of regions, image after image, not normalised."""
        images, boxes = _own_units(self.encoder, batch.images), batch.boxes
        if self.config.image_sides:
            sides = self.config.image_sides
            side = sides[mixed_seed(self.seed, batch.step) % len(sides)]
            boxes = [each * (side / images.shape[-1]) for each in boxes]
            images = F.interpolate(images, (side, side), mode="bilinear", align_corners=False)
        dense = self.encoder.dense_features(images)
        return pool_boxes(dense, boxes, cell=self.encoder.cell)

    @torch.no_grad()
    def teacher_vectors(self, crops: Float[Tensor, "N 3 s s"]) -> Float[Tensor, "N D"]:
        """The teacher's vectors of crops, RGB in [0, 1]; not normalised."""
        (teacher,) = self._teacher
        return teacher.encode_image(_own_units(teacher, crops))


def _own_units(encoder: DenseEncoder, images: Float[Tensor, "B 3 H W"]) -> Tensor:
    return normalized(images.to(encoder.device), mean=encoder.mean, std=encoder.std)
