"""What requests ask of the detector, in groups that are computed at once.

Only images of one size go together, so that none is padded and numbers do not depend on company
beyond rounding.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from regionclip.detect import DetectOptions, Detector
from regionclip.server.batching import Compute
from regionclip.structures import Detections, PreparedImage
from regionclip.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False, slots=True)
class DetectWork:
    """One image to detect in."""

    image: PreparedImage
    vocabulary: Vocabulary
    options: DetectOptions

    @property
    def group(self) -> Hashable:
        """Equal for what goes together; the vocabulary lives as long as the work does."""
        return "detect", self.image.size_hw, id(self.vocabulary), self.options


@dataclass(frozen=True, eq=False, slots=True)
class RegionWork:
    """One image with boxes in its own pixels, those of the prepared image."""

    image: PreparedImage
    boxes: Float[Tensor, "R 4"]

    @property
    def group(self) -> Hashable:
        """Equal for what goes together."""
        return "regions", self.image.size_hw


def detecting(detector: Detector) -> Compute[DetectWork, Detections]:
    """How a group of images is detected in."""
    return partial(_detect, detector)


def encoding(detector: Detector) -> Compute[RegionWork, Tensor]:
    """How the regions of a group of images become vectors ``(R, D)``, on the CPU."""
    return partial(_encode, detector)


def _detect(detector: Detector, group: Sequence[DetectWork]) -> list[Detections]:
    first = group[0]
    images = [work.image for work in group]
    return detector.detect_prepared(images, first.vocabulary, first.options)


@torch.inference_mode()
def _encode(detector: Detector, group: Sequence[RegionWork]) -> list[Tensor]:
    view = detector.parts.regions.view([work.image for work in group])
    return [view.of(index).features(work.boxes).cpu() for index, work in enumerate(group)]
