"""CLIM: an image tower learns what regions show from captions alone.

    images -> mosaics -> map -> one vector per tile         ->
           -> single images -> one vector each              -> against all captions -> loss
    captions -> text tower (frozen) -> one vector each      ->

Where a tile lies is known, because the mosaic was laid so: no proposals, no labels. The map is the
dense one; a ResNet may have its tiles cut from layer4's map and pooled with attention instead.

Source: CLIM (arXiv:2312.11376), sec. 3.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from regionclip.data.transforms import normalized
from regionclip.encoders.dense import DenseEncoder
from regionclip.encoders.text import without_padding
from regionclip.encoders.unlocking import freeze_unread, logit_scale_of, unlock_last_groups
from regionclip.losses import LossSum, image_text_loss
from regionclip.pairs import caption_id, compose_mosaics
from regionclip.regions.dense_regions import map_vectors
from regionclip.structures import CaptionedBatch
from regionclip.training.eval_mode import EvalModeLearner

from .training_config import ClimTraining

BoxVectors = Callable[[Tensor, Sequence[Tensor]], Tensor]
"""From normalised images and boxes of each in its pixels to a vector per box, such as
:func:`~regionclip.regions.layer4_regions.layer4_vectors` of an encoder."""
LARGEST_LOGIT_SCALE = math.log(100)
"""CLIP (arXiv:2103.00020), sec. 2.5: similarities are never multiplied by more than 100."""


class ClimLearner(EvalModeLearner):
    """Learns an image tower, and the logarithm of what its similarities are multiplied by.

    Everything computes as in ``eval`` mode; the text tower is frozen, so names keep their vectors.

    Attributes:
        encoder: Shared with its model and trained in place.
    """

    def __init__(
        self,
        encoder: DenseEncoder,
        config: ClimTraining,
        *,
        box_vectors: BoxVectors | None = None,
    ) -> None:
        """Freeze all but the last groups of the image tower and the logit scale.

        Args:
            encoder: Trained in place.
            config: What to do.
            box_vectors: How ``encoder`` gives tiles of a mosaic their vectors; ``None``: by its
                dense map.
        """
        super().__init__()
        self.encoder, self.config = encoder, config
        self._box_vectors = partial(map_vectors, encoder) if box_vectors is None else box_vectors
        unlock_last_groups(encoder, config.unlocked_groups)
        if config.num_singles == 0:
            freeze_unread(encoder)
            logit_scale_of(encoder).requires_grad_(True)
        self.train()

    def forward(self, batch: CaptionedBatch) -> dict[str, LossSum]:
        """The loss ``contrast``: tiles and single images against all captions, and back.

        Negatives are the other tiles of a mosaic, other mosaics, single images, and those of all
        other processes. Captions that read the same belong to each other's images (the original
        pushes them apart).

        Raises:
            ValueError: The images are no whole number of sets.
        """
        scale = logit_scale_of(self.encoder)
        with torch.no_grad():
            tokens = self.encoder.tokenize(batch.captions)
            texts = self.encoder.encode_tokens(without_padding(tokens))
        images = self.image_vectors(torch.stack(batch.images).to(scale.device))
        ids = torch.tensor([caption_id(each) for each in batch.captions], device=scale.device)
        return {"contrast": image_text_loss(images, texts, ids, temperature=(-scale).exp())}

    def image_vectors(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B D"]:
        """One vector per image, in their order: as a tile of a mosaic, or as it is.

        Args:
            images: RGB in [0, 1], of the size that the tower takes whole images in.

        Raises:
            ValueError: The images are no whole number of sets.
        """
        size = self.config.images_per_set
        if len(images) % size:
            raise ValueError(
                f"{len(images)} images are no whole number of sets of {size}; let "
                "optimization.batch_size divide into sets in every process and accumulated part, "
                "or set learner.images_per_set"
            )
        own = normalized(images, mean=self.encoder.mean, std=self.encoder.std)
        return torch.cat([self._vectors_of_set(each) for each in own.split(size)])

    def _vectors_of_set(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B D"]:
        config = self.config
        mosaics = compose_mosaics(
            images, sides=config.mosaic_sides, pixels_per_side=config.mosaic_pixels
        )
        vectors = [self._box_vectors(mosaics.pixels, mosaics.boxes)]
        if len(mosaics.singles):
            vectors.append(self.encoder.encode_image(mosaics.singles))
        return torch.cat(vectors)

    @torch.no_grad()
    def bound_logit_scale(self) -> None:
        """Keep the factor on similarities in [1, 100]; called after each step."""
        logit_scale_of(self.encoder).clamp_(0, LARGEST_LOGIT_SCALE)
