"""The two kinds of regions that are exported: proposals, and detections."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch

from regionclip.cli.region_files import Regions
from regionclip.detect import DetectOptions, Detector
from regionclip.proposals.first import FirstProposals
from regionclip.scoring.cosine import class_scores
from regionclip.structures import PreparedImage
from regionclip.vocabulary import Vocabulary


class Embedder(Protocol):
    """Finds regions and their vectors.

    Attributes:
        detector: What it runs on.
        class_names: By label; none if regions have no class.
    """

    detector: Detector
    class_names: tuple[str, ...]

    def embed(self, images: Sequence[PreparedImage]) -> list[Regions]:
        """The regions of each image."""
        ...


class ProposalEmbedder:
    """Embeds the proposals, best first."""

    class_names: tuple[str, ...] = ()

    def __init__(self, detector: Detector, max_regions: int) -> None:
        """Keep the first ``max_regions`` of each image; the others are not embedded."""
        proposer = detector.parts.proposer
        if proposer is not None:
            best = FirstProposals(proposer, max_regions)
            detector = Detector(replace(detector.parts, proposer=best), detector.defaults)
        self.detector = detector

    def embed(self, images: Sequence[PreparedImage]) -> list[Regions]:
        """See :class:`Embedder`."""
        return [
            Regions(
                boxes=proposals.boxes,
                features=features,
                objectness=None if proposals.objectness is None else proposals.objectness.sigmoid(),
            )
            for proposals, features in self.detector.propose_and_embed(images)
        ]


class DetectionEmbedder:
    """Embeds the detections, best first, with all class probabilities.

    Source:
        microsoft/RegionCLIP@4b8513b ``tools/extract_region_features.py`` with ``TEXT_EMB_PATH``.
    """

    def __init__(self, detector: Detector, vocabulary: Vocabulary, options: DetectOptions) -> None:
        """Detect ``vocabulary``'s classes with ``options``."""
        self.detector = detector
        self.class_names = vocabulary.names
        self._vocabulary = vocabulary
        self._options = replace(options, with_features=True)

    def embed(self, images: Sequence[PreparedImage]) -> list[Regions]:
        """See :class:`Embedder`."""
        regions = []
        for found in self.detector.detect_prepared(images, self._vocabulary, self._options):
            if found.features is None:
                raise RuntimeError("the detector gave no features")
            embeddings = self._vocabulary.embeddings
            probs = class_scores(
                found.features,
                embeddings,
                temperature=self.detector.parts.temperature,
                # zero vector, as upstream: a background logit of 0 (fast_rcnn.py:461)
                background_embedding=torch.zeros(embeddings.shape[1]),
            )
            regions.append(
                Regions(
                    boxes=found.boxes,
                    features=found.features,
                    objectness=found.objectness,
                    labels=found.labels,
                    scores=found.scores,
                    probs=probs,
                )
            )
        return regions
