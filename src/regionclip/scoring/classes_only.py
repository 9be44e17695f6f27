"""Scores over the classes alone, without a background."""

from jaxtyping import Float
from torch import Tensor

from regionclip.regions.embedder import RegionView
from regionclip.structures import Proposals
from regionclip.vocabulary import Vocabulary

from .cosine import TEMPERATURE, class_scores
from .regions import ScoredRegions


class ClassesOnly:
    """A :class:`~.regions.RegionScorer`: each region is one of the classes; scores sum to one.

    Source:
        microsoft/RegionCLIP, branch ``zero-shot``: softmax over classes, without a column for the
        background.
    """

    def __init__(self, *, temperature: float = TEMPERATURE) -> None:
        """Divide cosine similarities by ``temperature``."""
        self._temperature = temperature

    def score(
        self, view: RegionView, proposals: Proposals, vocabulary: Vocabulary
    ) -> ScoredRegions:
        """Scores of all proposals in one image, in their order; objectness has no part."""
        features: Float[Tensor, "R D"] = view.features(proposals.boxes)
        rows = vocabulary.embeddings.to(features.device)
        scores = class_scores(features, rows, temperature=self._temperature)
        return ScoredRegions(proposals.boxes.to(features.device), scores, scores, features)
