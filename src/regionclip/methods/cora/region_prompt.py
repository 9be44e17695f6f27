"""Region prompting: CLIP's image tower learns to see regions by one tensor of it.

    images -> stem to layer3 (frozen) -> ROIAlign of given boxes -> layer4 (frozen)
           -> attention pool with the prompt -> cosine with class embeddings (frozen) -> loss

The prompt is the attention pool's positional embedding: what is added to the cells of a region
before they are pooled. Whatever pools regions with that tower can use it.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import box_convert

from regionclip.encoders.clip_resnet import ClipResNet
from regionclip.encoders.frozen_norms import feature_map_with_frozen_norms
from regionclip.losses import LossSum, weighted_cross_entropy
from regionclip.pairs import check_labels
from regionclip.regions.attention_pool import attention_pool
from regionclip.regions.region_head import STRIDE, RegionHead
from regionclip.regions.valid_cells import map_padding
from regionclip.scoring.cosine import TEMPERATURE, class_logits
from regionclip.structures import DetectionBatch
from regionclip.training.eval_mode import EvalModeLearner

from .class_rows import unit_class_rows
from .model import cell_boxes


class RegionPromptLearner(EvalModeLearner):
    """Learns the region prompt from boxes of base classes.

    Everything else computes as in ``eval`` mode and has no gradient.

    Attributes:
        encoder: Shared; its attention pool's positional embedding is trained in place.
        class_embeddings: One row per training class, of length one.

    Source:
        CORA (arXiv:2303.13076), sec. 3.2; tgxs002/CORA@38124c2 (branch ``region``).
    """

    class_embeddings: Tensor

    def __init__(
        self,
        encoder: ClipResNet,
        class_embeddings: Float[Tensor, "C D"],
        *,
        temperature: float = TEMPERATURE,
    ) -> None:
        """Freeze all but the prompt.

        Args:
            encoder: A CLIP; its own positional embedding is what the prompt begins as.
            class_embeddings: One row per training class, in the order of the labels, of any length.
            temperature: Divides cosine similarities.

        Raises:
            ValueError: There is no class, or rows are not as wide as the encoder's regions.
        """
        super().__init__()
        rows = unit_class_rows(
            class_embeddings, width=encoder.spec.embed_dim, device=encoder.device
        )
        self.encoder, self.temperature = encoder, temperature
        self.register_buffer("class_embeddings", rows, persistent=False)
        encoder.requires_grad_(False)
        self.prompt.requires_grad_(True)
        self.train()

    @property
    def prompt(self) -> nn.Parameter:
        """The attention pool's positional embedding, ``(1 + grid * grid, F)``."""
        return self.encoder.visual.attnpool.positional_embedding

    def forward(self, batch: DetectionBatch) -> dict[str, LossSum]:
        """The loss ``classes``: cross-entropy over the training classes, a mean over boxes.

        Raises:
            ValueError: An object's label is none of the training classes.
        """
        labels = torch.cat([own.labels for own in batch.targets]).to(self.encoder.device)
        check_labels(labels, len(self.class_embeddings))
        logits = self.logits(batch.images, [own.boxes for own in batch.targets])
        return {"classes": weighted_cross_entropy(logits, labels)}

    def logits(self, images: Sequence[Tensor], boxes: Sequence[Tensor]) -> Float[Tensor, "N C"]:
        """Score boxes against the training classes; with gradients to the prompt.

        Args:
            images: ``(3, H, W)`` RGB in [0, 1], of any sizes; at least one.
            boxes: Per image, ``(R, 4)``, ``xyxy`` in its pixels; none is fine.

        Returns:
            Image after image, box after box.
        """
        vectors = attention_pool(self.cells(images, boxes), self.encoder.visual.attnpool)
        return class_logits(vectors, self.class_embeddings, temperature=self.temperature)

    @torch.no_grad()
    def cells(
        self, images: Sequence[Tensor], boxes: Sequence[Tensor]
    ) -> Float[Tensor, "N C grid grid"]:
        """layer4's output on boxes, without gradients; arguments as :meth:`logits`.

        Images are padded to one batch, as the original does. Boxes are scaled by how many cells
        of its image's map are no padding, as they are in CORA's detection.
        """
        encoder = self.encoder
        head = RegionHead(encoder.visual)
        batch = encoder.prepare(images).contiguous(memory_format=torch.channels_last)
        layer3 = feature_map_with_frozen_norms(encoder.visual, batch)
        lifted = head.lift(layer3)
        padding = map_padding(images, batch, lifted.map_hw)
        cells = []
        for row, (image, own) in enumerate(zip(images, boxes, strict=True)):
            sides = own.new_tensor([image.shape[2], image.shape[1]]).repeat(2)
            shares = box_convert((own / sides).to(batch.device), "xyxy", "cxcywh")
            scaled = cell_boxes(shares[None], padding[row : row + 1])[0] * STRIDE
            cells.append(head.layer4_cells(lifted, row, scaled))
        return torch.cat(cells)
