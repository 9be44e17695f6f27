"""A detector that looks at the same image, and at the same box of it, once.

Several tests start from the same boxes of the same image: with hard and with soft NMS, with other
classes, and before NMS. Most of their time goes into the vectors of those boxes.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from regionclip.detect import Detector
from regionclip.proposals.proposer import Proposer
from regionclip.regions.embedder import RegionEmbedder, RegionView
from regionclip.structures import PreparedImage, Proposals

Result = TypeVar("Result")


def remembering(detector: Detector) -> Detector:
    """The same detector, one image at a time, which keeps its proposals and region vectors."""
    proposer, regions = detector.parts.proposer, detector.parts.regions
    assert proposer is not None
    parts = replace(detector.parts, proposer=_Proposer(proposer), regions=_Regions(regions))
    return Detector(parts, detector.defaults)


class _PerImage(Generic[Result]):
    """What was computed of an image, by all of its pixels."""

    def __init__(self, compute: Callable[[PreparedImage], Result]) -> None:
        self._compute = compute
        self._known: list[tuple[Tensor, Result]] = []

    def of(self, images: Sequence[PreparedImage]) -> Result:
        [image] = images
        for pixels, result in self._known:
            if torch.equal(pixels, image.pixels):
                return result
        self._known.append((image.pixels, self._compute(image)))
        return self._known[-1][1]


class _Proposer:
    def __init__(self, proposer: Proposer) -> None:
        self._found = _PerImage(lambda image: proposer.propose([image]))

    def propose(self, images: Sequence[PreparedImage]) -> list[Proposals]:
        return self._found.of(images)


class _Regions:
    def __init__(self, regions: RegionEmbedder) -> None:
        self._views = _PerImage(lambda image: _View(regions.view([image]).of(0)))

    def view(self, images: Sequence[PreparedImage]) -> "_View":
        return self._views.of(images)


class _View:
    """One image, and a batch of it alone."""

    def __init__(self, view: RegionView) -> None:
        self._view = view
        self._vectors: dict[tuple[float, ...], Tensor] = {}

    def of(self, index: int) -> "_View":
        assert index == 0
        return self

    def features(self, boxes: Tensor, *, masks: Tensor | None = None) -> Tensor:
        assert masks is None
        rows = [tuple(box) for box in boxes.tolist()]
        unseen = [number for number, row in enumerate(rows) if row not in self._vectors]
        new = self._view.features(boxes[unseen])
        self._vectors.update(zip((rows[number] for number in unseen), new, strict=True))
        return torch.stack([self._vectors[row] for row in rows]) if rows else new

    def last_stage_cells(self, boxes: Tensor) -> Tensor:
        return self._view.last_stage_cells(boxes)
