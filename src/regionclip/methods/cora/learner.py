"""Training of the localiser: boxes of base classes on a frozen CLIP with a region prompt.

images -> maps (frozen) -> anchors' classes (frozen) -> boxes and objectness, layer by layer
       -> paired with the objects of these classes -> losses
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.ops import box_convert

from regionclip.losses import LossSum, query_loss
from regionclip.pairs import QueryMatches, check_labels, match_queries
from regionclip.structures import DetectionBatch, Targets

from .class_rows import unit_class_rows
from .class_split import UniformNumbers, halved_embeddings, is_split_step, uniform_numbers_of
from .model import Cora, ImageMaps, Localization
from .pre_matching import match_anchors
from .training_config import CoraTraining

LayerMatches = list[QueryMatches]
"""One per decoder layer, of one image."""


class CoraLearner(nn.Module):
    """Learns where things are whose names it is told.

    Anchors get their classes without gradients. What cannot be learned of is a class without
    embedding: labels are positions in ``class_embeddings``, and any other number is refused.

    Attributes:
        model: Shared; its towers, the region prompt included, stay as they are.
        class_embeddings: One row per training class, of length one.

    Source:
        CORA (arXiv:2303.13076), sec. 3.3; tgxs002/CORA@c334a6d ``models/fast_detr.py``.
    """

    class_embeddings: Tensor

    def __init__(
        self,
        model: Cora,
        class_embeddings: Float[Tensor, "C D"],
        config: CoraTraining,
        *,
        numbers_of: UniformNumbers | None = None,
    ) -> None:
        """Freeze what does not learn.

        Args:
            model: Trained in place.
            class_embeddings: One row per training class, in the order of the labels, of any length.
            config: What to do.
            numbers_of: Chance of the steps whose classes are split; by default that of seed 0.

        Raises:
            ValueError: There is no class, or rows are not as wide as the model's regions.
        """
        super().__init__()
        rows = unit_class_rows(
            class_embeddings, width=model.config.encoder.embed_dim, device=model.anchors.device
        )
        self.model, self.config = model, config
        self.numbers_of = numbers_of or uniform_numbers_of(0)
        self.register_buffer("class_embeddings", rows, persistent=False)
        model.requires_grad_(True)
        model.encoder.requires_grad_(False)
        # a first layer alone asks nothing of it, and processes wait for every gradient
        model.decoder.query_scale.requires_grad_(model.config.decoder_layers > 1)

    def forward(self, batch: DetectionBatch) -> dict[str, LossSum]:
        """The losses ``objectness``, ``boxes`` and ``giou``, weighted, of every decoder layer.

        Those of the last layer have these names; earlier ones end in ``_0``, ``_1`` and so on. In a
        step whose classes are split, every image counts twice.

        Raises:
            ValueError: An object's label is none of the training classes.
        """
        maps = self.model.maps(batch.images)
        classes = self.anchor_classes(maps, batch.step)
        found = self.model.localize(maps, classes, self.class_embeddings)
        sizes = [(int(image.shape[1]), int(image.shape[2])) for image in batch.images]
        targets = [
            self._normalized(own, size) for own, size in zip(batch.targets, sizes, strict=True)
        ]
        return self.losses(found, targets * (len(classes) // len(sizes)))

    @torch.no_grad()
    def anchor_classes(self, maps: ImageMaps, step: int) -> Int[Tensor, "N Q"]:
        """What each anchor looks for; all images twice, if the step's classes are split."""
        config, features = self.config, self.model.anchor_features(maps)
        embeddings = (self.class_embeddings,)
        if is_split_step(step, share=config.split_share, period=config.split_period):
            numbers = self.numbers_of(step, len(self.class_embeddings))
            embeddings = halved_embeddings(self.class_embeddings, numbers)
        temperature = self.model.config.temperature
        return torch.cat(
            [match_anchors(features, own, temperature=temperature) for own in embeddings]
        )

    def losses(self, found: Localization, targets: Sequence[Targets]) -> dict[str, LossSum]:
        """What boxes and objectness cost, by name.

        Args:
            found: Of as many images as there are targets.
            targets: ``cxcywh``, shares of the image's sides.
        """
        matches = self.matches(found, targets)
        num_matched = sum(len(own[-1]) for own in matches)
        config, last = self.config, len(found.boxes) - 1
        losses: dict[str, LossSum] = {}
        for layer in range(len(found.boxes)):
            loss = query_loss(
                found.boxes[layer],
                found.objectness[layer],
                [own.boxes for own in targets],
                [own[layer] for own in matches],
                num_matched=num_matched,
            )
            ending = "" if layer == last else f"_{layer}"
            losses[f"objectness{ending}"] = _weighted(loss.objectness, config.objectness_weight)
            losses[f"boxes{ending}"] = _weighted(loss.boxes, config.box_weight)
            losses[f"giou{ending}"] = _weighted(loss.giou, config.giou_weight)
        return losses

    def matches(self, found: Localization, targets: Sequence[Targets]) -> list[LayerMatches]:
        """Which query is to find which object, per image and layer; arguments as :meth:`losses`."""
        return [
            match_queries(
                found.boxes[:, image],
                found.objectness[:, image],
                found.classes[image],
                own.boxes,
                own.labels,
                costs=self.config.matching,
            )
            for image, own in enumerate(targets)
        ]

    def _normalized(self, targets: Targets, size_hw: tuple[int, int]) -> Targets:
        """Boxes as the localiser has them: ``cxcywh``, shares of the image's sides."""
        check_labels(targets.labels, len(self.class_embeddings))
        device = self.class_embeddings.device
        sides = torch.tensor([size_hw[1], size_hw[0]], dtype=torch.float32).repeat(2)
        boxes = box_convert(targets.boxes.cpu(), "xyxy", "cxcywh") / sides
        return Targets(boxes.to(device), targets.labels.to(device))


def _weighted(loss: LossSum, weight: float) -> LossSum:
    return LossSum(loss.total * weight, loss.count)
