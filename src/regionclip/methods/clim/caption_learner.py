"""How a CLIP with a map is made in the first place: whole images against their captions."""

import torch
from torch import Tensor, nn

from regionclip.data.icons.batches import CaptionBatch
from regionclip.data.transforms import normalized
from regionclip.encoders.dense import DenseEncoder
from regionclip.encoders.text import without_padding
from regionclip.encoders.unlocking import logit_scale_of, module_of
from regionclip.losses import LossSum, caption_contrastive_loss
from regionclip.losses.loss_sum import counted

from .learner import LARGEST_LOGIT_SCALE

IMAGE_TOWER = "clip.visual."


class CaptionLearner(nn.Module):
    """Learns a CLIP from captioned images; its class token alone says what an image shows.

    Of the map nothing is asked, as of that of any CLIP.

    Source: CLIP (arXiv:2103.00020), fig. 3; with a text tower that is there already, LiT
    (arXiv:2111.07991).
    """

    def __init__(self, encoder: DenseEncoder, *, trains_text: bool) -> None:
        """Train ``encoder`` in place.

        Args:
            encoder: With an image tower ``visual``.
            trains_text: Whether the text tower learns too; else it stays as it is.
        """
        super().__init__()
        self.encoder, self.trains_text = encoder, trains_text
        for name, parameter in module_of(encoder).named_parameters():
            is_image = name.startswith(IMAGE_TOWER)
            parameter.requires_grad_(trains_text or is_image)
        logit_scale_of(encoder).requires_grad_(True)

    def forward(self, batch: CaptionBatch) -> dict[str, LossSum]:
        """The loss ``captions``, a mean over the batch."""
        encoder, device = self.encoder, self.encoder.device
        pixels: Tensor = batch.pixels.to(device).float() / 255
        tokens = without_padding(encoder.tokenize(batch.captions))
        scale = logit_scale_of(encoder)
        with torch.set_grad_enabled(self.trains_text and torch.is_grad_enabled()):
            texts = encoder.encode_tokens(tokens)
        loss = caption_contrastive_loss(
            encoder.encode_image(normalized(pixels, mean=encoder.mean, std=encoder.std)),
            texts,
            is_positive=batch.is_positive.to(device),
            is_ignored=batch.is_ignored.to(device),
            scale=torch.exp(scale.clamp(max=LARGEST_LOGIT_SCALE)),
        )
        return {"captions": counted(loss, 1)}
