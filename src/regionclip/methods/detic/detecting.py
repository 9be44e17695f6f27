"""A Detic model as the parts of a detector; an image is encoded once for all of them."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from regionclip.detections.box_coder import REGION_BOX_WEIGHTS, bounded
from regionclip.losses.compositions import similarity_logits
from regionclip.proposals.proposer import NovelClasses
from regionclip.regions.embedder import RegionView
from regionclip.scoring.regions import ScoredRegions
from regionclip.structures import PreparedImage, Proposals
from regionclip.vocabulary import Vocabulary

from .model import Detic, RegionAnswers

REGIONS_AT_ONCE = 128
"""Of layer4, which takes 0.7 billion multiplications and 5 MB for each."""


class DeticRegions:
    """Region vectors in the space of the texts, for inference only.

    Attributes:
        model: Frozen.
    """

    def __init__(self, model: Detic, *, dtype: torch.dtype = torch.float32) -> None:
        """Let networks compute in ``dtype``; scores are float32."""
        self.model, self._dtype = model, dtype

    def view(self, images: Sequence[PreparedImage]) -> "DeticBatchView":
        """Encode images."""
        return DeticBatchView(self.model, images, dtype=self._dtype)


class DeticBatchView:
    """Maps of some images.

    Attributes:
        model: Frozen.
        sizes_hw: Of the images.
        maps: One per image.
    """

    def __init__(
        self, model: Detic, images: Sequence[PreparedImage], *, dtype: torch.dtype
    ) -> None:
        """Encode images; networks compute in ``dtype``."""
        self.model, self._dtype = model, dtype
        self.sizes_hw = [image.size_hw for image in images]
        with self.autocast():
            self.maps = model.maps([image.pixels for image in images])

    def autocast(self) -> torch.autocast:
        """Lets what is inside compute in the precision that was asked for."""
        is_on = self._dtype != torch.float32
        return torch.autocast(self.model.device.type, self._dtype, enabled=is_on)

    def propose(self) -> list[Proposals]:
        """Boxes of each image."""
        selection = self.model.config.rpn.selection
        found = []
        for own_map, size_hw in zip(self.maps, self.sizes_hw, strict=True):
            with self.autocast():
                judged = self.model.judge(own_map)
            found.append(self.model.propose(judged, size_hw, selection))
        return found

    def of(self, index: int) -> "DeticView":
        """One of the images."""
        return DeticView(self, index)


class DeticView:
    """One image; see :class:`~regionclip.regions.embedder.RegionView`."""

    def __init__(self, batch: DeticBatchView, index: int) -> None:
        self.batch, self.index = batch, index

    def features(
        self, boxes: Float[Tensor, "R 4"], *, masks: Bool[Tensor, "R H W"] | None = None
    ) -> Float[Tensor, "R D"]:
        """Vectors, not normalised.

        Raises:
            ValueError: Masks are given.
        """
        if masks is not None:
            raise ValueError("this detector names boxes, not masks; give boxes")
        return self.answers(boxes).embeddings

    def last_stage_cells(self, boxes: Float[Tensor, "R 4"]) -> Float[Tensor, "R F g g"]:
        """Raise.

        Raises:
            ValueError: Always: there is no mask head.
        """
        raise ValueError("this detector draws no masks")

    def answers(self, boxes: Float[Tensor, "R 4"]) -> RegionAnswers:
        """What the box head says of boxes, a few at a time."""
        own_map = self.batch.maps[self.index]
        with self.batch.autocast():
            parts = [
                self.batch.model.answer([own_map], [own]) for own in boxes.split(REGIONS_AT_ONCE)
            ]
        return RegionAnswers(
            torch.cat([each.embeddings for each in parts]),
            torch.cat([each.deltas for each in parts]),
        )


class DeticLocalizer:
    """A :class:`~regionclip.proposals.proposer.Localizer`: its own network's proposals.

    They do not depend on the classes; they come from the maps that regions are named on.
    """

    def __init__(self, regions: DeticRegions) -> None:
        self._regions = regions

    def localize(
        self, images: Sequence[PreparedImage], vocabulary: Vocabulary, novel: NovelClasses
    ) -> tuple[list[Proposals], DeticBatchView]:
        """Boxes inside each image, and its map.

        Raises:
            ValueError: Novel classes are given, which this model treats as all others.
        """
        if novel != NovelClasses():
            raise ValueError("this detector looks for all classes alike: leave out novel")
        view = self._regions.view(images)
        return view.propose(), view


class DeticScorer:
    """A :class:`~regionclip.scoring.regions.RegionScorer`: each class by itself.

    Attributes:
        model: Frozen.
    """

    def __init__(self, model: Detic) -> None:
        self.model = model

    def score(
        self, view: RegionView, proposals: Proposals, vocabulary: Vocabulary
    ) -> ScoredRegions:
        """Sigmoid scores, and offsets of the boxes.

        Raises:
            TypeError: The view is not of :class:`DeticRegions`.
        """
        if not isinstance(view, DeticView):
            raise TypeError(f"expected a view of DeticRegions, got {type(view).__name__}")
        model = self.model
        boxes = proposals.boxes.to(model.device)
        answers = view.answers(boxes)
        scores = class_scores(model, answers.embeddings, vocabulary.embeddings.to(model.device))
        deltas = bounded(answers.deltas, weights=REGION_BOX_WEIGHTS)
        return ScoredRegions(boxes, scores, scores, answers.embeddings, deltas=deltas)


def class_scores(
    model: Detic, embeddings: Float[Tensor, "R D"], class_embeddings: Float[Tensor, "C D"]
) -> Float[Tensor, "R C"]:
    """Sigmoids of scaled cosines, with the bias that the configuration asks for."""
    logits = similarity_logits(embeddings, class_embeddings, scale=model.config.similarity_scale)
    if model.config.score_bias == "learned":
        logits = logits + model.class_bias
    return logits.sigmoid()
