"""Regions paired with the concepts that a teacher sees in them."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from regionclip.scoring.cosine import TEMPERATURE, class_scores


@dataclass(frozen=True, slots=True)
class RegionConcepts:
    """What a teacher makes of regions; zero kept regions are fine.

    Attributes:
        kept: Regions that it is sure enough of.
        targets: Of the kept regions, the concept that it sees, an index into the pool.
        scores: Of the kept regions, how much it sees each concept of the pool; rows sum to 1.
    """

    kept: Bool[Tensor, " R"]
    targets: Int[Tensor, " K"]
    scores: Float[Tensor, "K C"]


def match_regions_to_concepts(
    teacher_features: Float[Tensor, "R D"],
    concept_embeddings: Float[Tensor, "C D"],
    *,
    min_score: float = 0.1,
    temperature: float = TEMPERATURE,
) -> RegionConcepts:
    """Give each region the concept that the teacher finds most like it.

    Regions whose best score does not exceed ``min_score`` are left out. Where no region of a batch
    is left, the original keeps all of them; here none is kept, so that what a region teaches does
    not depend on the others.

    Args:
        teacher_features: One row per region, in the teacher's joint space, of any length.
        concept_embeddings: The pool in the same space, of any length; at least one concept.
        min_score: In [0, 1].
        temperature: Divides cosine similarities.

    Raises:
        ValueError: The pool is empty.

    Source:
        RegionCLIP (arXiv:2112.09106), sec. 3.2, "pseudo region-text pairs"; the threshold is
        ``CONCEPT_THRES`` of microsoft/RegionCLIP@4b8513b.
    """
    if len(concept_embeddings) == 0:
        raise ValueError("the concept pool is empty: there is nothing to pair regions with")
    scores = class_scores(teacher_features, concept_embeddings, temperature=temperature)
    best, targets = scores.max(dim=1)
    kept = best > min_score
    return RegionConcepts(kept, targets[kept], scores[kept])
