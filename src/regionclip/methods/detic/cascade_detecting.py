"""A cascade as the parts of a detector; an image is encoded once for all of them."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from regionclip.losses.compositions import similarity_logits
from regionclip.proposals.centernet import select_centers
from regionclip.proposals.proposer import NovelClasses
from regionclip.regions.embedder import RegionView
from regionclip.scoring.regions import ScoredRegions
from regionclip.structures import PreparedImage, Proposals
from regionclip.vocabulary import Vocabulary

from .cascade_heads import mean_embeddings
from .cascade_model import CascadeDetic, move_boxes


class CascadeRegions:
    """Region vectors in the space of the texts, for inference only.

    Attributes:
        model: Frozen.
    """

    def __init__(self, model: CascadeDetic, *, dtype: torch.dtype = torch.float32) -> None:
        """Let networks compute in ``dtype``; scores are float32."""
        self.model, self._dtype = model, dtype

    def view(self, images: Sequence[PreparedImage]) -> "CascadeBatchView":
        """Encode images."""
        return CascadeBatchView(self.model, images, dtype=self._dtype)


class CascadeBatchView:
    """Pyramids of some images.

    Attributes:
        model: Frozen.
        sizes_hw: Of the images.
        pyramids: One per image.
    """

    def __init__(
        self, model: CascadeDetic, images: Sequence[PreparedImage], *, dtype: torch.dtype
    ) -> None:
        """Encode images; networks compute in ``dtype``."""
        self.model, self._dtype = model, dtype
        self.sizes_hw = [image.size_hw for image in images]
        with self.autocast():
            self.pyramids = model.pyramids([image.pixels for image in images])

    def autocast(self) -> torch.autocast:
        """Lets what is inside compute in the precision that was asked for."""
        is_on = self._dtype != torch.float32
        return torch.autocast(self.model.device.type, self._dtype, enabled=is_on)

    def propose(self) -> list[Proposals]:
        """Boxes of each image."""
        found = []
        for levels, size_hw in zip(self.pyramids, self.sizes_hw, strict=True):
            with self.autocast():
                judged = self.model.judge(levels)
            found += select_centers(judged, size_hw, self.model.config.proposals)
        return found

    def of(self, index: int) -> "CascadeView":
        """One of the images."""
        return CascadeView(self, index)


class CascadeView:
    """One image; see :class:`~regionclip.regions.embedder.RegionView`."""

    def __init__(self, batch: CascadeBatchView, index: int) -> None:
        self.batch, self.index = batch, index

    @property
    def levels(self) -> list[Tensor]:
        """The pyramid."""
        return self.batch.pyramids[self.index]

    def features(
        self, boxes: Float[Tensor, "R 4"], *, masks: Bool[Tensor, "R H W"] | None = None
    ) -> Float[Tensor, "R D"]:
        """The mean of the stages' directions, all of them of the boxes as they are.

        Raises:
            ValueError: Masks are given.
        """
        if masks is not None:
            raise ValueError("this detector names boxes, not masks; give boxes")
        model = self.batch.model
        with self.batch.autocast():
            answers = [
                model.answer(stage, [self.levels], [boxes.to(model.device)])
                for stage in range(len(model.stages))
            ]
        return mean_embeddings([own.embeddings for own in answers])

    def last_stage_cells(self, boxes: Float[Tensor, "R 4"]) -> Float[Tensor, "R F g g"]:
        """What the mask head sees of each box."""
        return self.batch.model.cells([self.levels], [boxes.to(self.levels[0])]).float()

    def run_stages(
        self, boxes: Float[Tensor, "R 4"]
    ) -> tuple[list[Float[Tensor, "R D"]], Float[Tensor, "R 4"]]:
        """Each stage's embeddings, and where the last one leaves the boxes, inside the image."""
        batch, embeddings = self.batch, []
        for stage in range(len(batch.model.stages)):
            with batch.autocast():
                answers = batch.model.answer(stage, [self.levels], [boxes])
            embeddings.append(answers.embeddings)
            [boxes] = move_boxes(stage, [boxes], answers.deltas, [batch.sizes_hw[self.index]])
        return embeddings, boxes


class CascadeLocalizer:
    """A :class:`~regionclip.proposals.proposer.Localizer`: its own heatmap's proposals.

    They do not depend on the classes; they come from the maps that regions are named on.
    """

    def __init__(self, regions: CascadeRegions) -> None:
        self._regions = regions

    def localize(
        self, images: Sequence[PreparedImage], vocabulary: Vocabulary, novel: NovelClasses
    ) -> tuple[list[Proposals], CascadeBatchView]:
        """Boxes of each image, which may reach outside it, and its pyramid.

        Raises:
            ValueError: Novel classes are given, which this model treats as all others.
        """
        if novel != NovelClasses():
            raise ValueError("this detector looks for all classes alike: leave out novel")
        view = self._regions.view(images)
        return view.propose(), view


class CascadeScorer:
    """A :class:`~regionclip.scoring.regions.RegionScorer`: the mean of three opinions.

    Attributes:
        model: Frozen.
    """

    def __init__(self, model: CascadeDetic) -> None:
        self.model = model

    def score(
        self, view: RegionView, proposals: Proposals, vocabulary: Vocabulary
    ) -> ScoredRegions:
        """Scores with those of the proposals, and where the boxes get to.

        Raises:
            TypeError: The view is not of :class:`CascadeRegions`.
        """
        if not isinstance(view, CascadeView):
            raise TypeError(f"expected a view of CascadeRegions, got {type(view).__name__}")
        model = self.model
        boxes = proposals.boxes.to(model.device)
        embeddings, moved = view.run_stages(boxes)
        classes = vocabulary.embeddings.to(model.device)
        own = class_scores(embeddings, classes, scale=model.config.similarity_scale)
        scores = own
        if proposals.objectness is not None:
            scores = fused_scores(own, proposals.objectness.to(model.device))
        return ScoredRegions(boxes, scores, own, mean_embeddings(embeddings), moved=moved)


def class_scores(
    stages: Sequence[Float[Tensor, "R D"]], class_embeddings: Float[Tensor, "C D"], *, scale: float
) -> Float[Tensor, "R C"]:
    """The mean over stages of each class's sigmoid.

    The column of the background, a row of zeros in the original, is always 0.5 and left out.

    Args:
        stages: Each stage's embeddings of the same regions.
        class_embeddings: Of any length.
        scale: What cosines are multiplied by.

    Source:
        Cascade R-CNN (arXiv:1712.00726), sec. 4.3: classifiers of all stages vote.
    """
    own = [similarity_logits(each, class_embeddings, scale=scale).sigmoid() for each in stages]
    return torch.stack(own).mean(dim=0)


def fused_scores(
    scores: Float[Tensor, "R C"], objectness: Float[Tensor, " R"]
) -> Float[Tensor, "R C"]:
    """The root of a class's score times the root of the heatmap's.

    Source:
        Probabilistic two-stage detection (arXiv:2103.07461), sec. 4; the second root:
        wusize/CLIM@7baade3.
    """
    return (scores * F.logsigmoid(objectness).mul(0.5).exp()[:, None]).sqrt()
