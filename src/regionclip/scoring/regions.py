"""Class scores of an image's regions, for as many of them as can still matter."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from regionclip.regions.embedder import RegionView
from regionclip.structures import Proposals
from regionclip.vocabulary import Vocabulary

from .cosine import TEMPERATURE, class_scores
from .objectness import ObjectnessFusion, fuse_objectness, score_bound

REGIONS_PER_ROUND = 128
"""Regions scored between two looks at whether the rest can still matter."""


@dataclass(frozen=True, slots=True)
class ScoredRegions:
    """Regions before selection, in the proposals' order; a tail that cannot matter has no row.

    Attributes:
        boxes: ``xyxy``, pixels of the prepared image.
        scores: What ranks and selects: class score and objectness, fused.
        class_scores: In [0, 1], objectness left out.
        features: Region vectors, not normalised.
        deltas: Offsets of the boxes, of a scorer that moves them; see
            :func:`~regionclip.detections.box_coder.decode_boxes`.
        moved: Where the boxes have got to, of a scorer that moves them step by step.
    """

    boxes: Float[Tensor, "R 4"]
    scores: Float[Tensor, "R C"]
    class_scores: Float[Tensor, "R C"]
    features: Float[Tensor, "R D"]
    deltas: Float[Tensor, "R 4"] | None = None
    moved: Float[Tensor, "R 4"] | None = None


@runtime_checkable
class RegionScorer(Protocol):
    """Scores regions by more than one vector each; any object with this method is one."""

    def score(
        self, view: RegionView, proposals: Proposals, vocabulary: Vocabulary
    ) -> ScoredRegions:
        """Scores of all proposals in one image, in their order, zero proposals included.

        Args:
            view: The image, from the region embedder that the scorer goes with.
            proposals: Regions of it.
            vocabulary: In the order of the columns wanted.
        """
        ...


def score_classes(
    region_features: Float[Tensor, "R D"],
    class_embeddings: Float[Tensor, "C D"],
    *,
    temperature: float = TEMPERATURE,
) -> Float[Tensor, "R C"]:
    """Softmax over the classes and a background of logit 0, whose column is left out.

    Source:
        RegionCLIP (arXiv:2112.09106), sec. 3.3: an all-zero embedding for the background.
    """
    class_embeddings = class_embeddings.to(region_features.device)
    background = class_embeddings.new_zeros(class_embeddings.shape[1])
    scores = class_scores(
        region_features,
        class_embeddings,
        temperature=temperature,
        background_embedding=background,
    )
    return scores[:, :-1]


def score_regions(
    proposals: Proposals,
    embed: Callable[[Tensor], Tensor],
    class_embeddings: Float[Tensor, "C D"],
    *,
    fusion: ObjectnessFusion = "none",
    temperature: float = TEMPERATURE,
    min_score: float = 0.0,
    is_settled: Callable[[ScoredRegions, float], bool] | None = None,
) -> ScoredRegions:
    """Score regions in decreasing objectness and stop where no further one can matter.

    A region's fused score is at most the :func:`score_bound` of its objectness. Regions whose
    bound is not above ``min_score`` are never looked at. The others come in rounds; after each,
    ``is_settled`` tells whether as many detections as will be kept score higher than the bound of
    the regions to come. NMS, hard or soft, lets a detection change only lower ones, so these then
    cannot change the result; and it makes the question cheap, for scores below the bound have no
    part in it.

    Args:
        proposals: In decreasing objectness, if they have one.
        embed: Boxes ``(R, 4)`` to region vectors ``(R, D)``.
        class_embeddings: Any length; in the order of the columns wanted.
        fusion: How objectness enters; proposals without objectness use class scores alone.
        temperature: Divides cosine similarities.
        min_score: Detections score higher than this.
        is_settled: Asked with what is scored so far and the bound. ``None`` scores all.

    Source:
        The bound is exact for RegionCLIP's scores (microsoft/RegionCLIP@4b8513b
        ``detectron2/modeling/roi_heads/fast_rcnn.py``), which computes all and drops them later.
    """
    objectness = proposals.objectness
    if objectness is None or fusion == "none":
        return _score(proposals, embed, class_embeddings, "none", temperature)
    bounds = score_bound(objectness, fusion).cpu()
    num_possible = int((bounds > min_score).sum())
    scored = _score(_rows(proposals, 0, 0), embed, class_embeddings, fusion, temperature)
    for start in range(0, num_possible, REGIONS_PER_ROUND):
        if is_settled is not None and start > 0 and is_settled(scored, float(bounds[start])):
            break
        stop = min(start + REGIONS_PER_ROUND, num_possible)
        round_ = _rows(proposals, start, stop)
        scored = _join(scored, _score(round_, embed, class_embeddings, fusion, temperature))
    return scored


def _score(
    proposals: Proposals,
    embed: Callable[[Tensor], Tensor],
    class_embeddings: Tensor,
    fusion: ObjectnessFusion,
    temperature: float,
) -> ScoredRegions:
    features = embed(proposals.boxes)
    scores = score_classes(features, class_embeddings, temperature=temperature)
    fused = scores
    if proposals.objectness is not None:
        fused = fuse_objectness(scores, proposals.objectness.to(scores.device), fusion)
    return ScoredRegions(proposals.boxes.to(features.device), fused, scores, features)


def _rows(proposals: Proposals, start: int, stop: int) -> Proposals:
    objectness = None if proposals.objectness is None else proposals.objectness[start:stop]
    return Proposals(proposals.boxes[start:stop], objectness)


def _join(first: ScoredRegions, second: ScoredRegions) -> ScoredRegions:
    return ScoredRegions(
        torch.cat([first.boxes, second.boxes]),
        torch.cat([first.scores, second.scores]),
        torch.cat([first.class_scores, second.class_scores]),
        torch.cat([first.features, second.features]),
    )
