"""Detic models with a cascade as detectors that are ready for use."""

import torch

from regionclip.detect import Detector
from regionclip.detector_parts import DetectorParts
from regionclip.encoders.text import TextEncoder, UnitPrompts
from regionclip.loading.detic import ready, requested_text
from regionclip.loading.request import FileKind, LoadRequest, OpenFile
from regionclip.methods.detic.cascade_detecting import (
    CascadeLocalizer,
    CascadeRegions,
    CascadeScorer,
)
from regionclip.methods.detic.cascade_model import CascadeDetic
from regionclip.methods.detic.cascade_reading import is_cascade_file, read_cascade
from regionclip.proposals.proposer import Proposer


def _open(file: OpenFile, request: LoadRequest) -> Detector:
    read = read_cascade(file.path, file.state)
    text = requested_text(read, request)
    model = read.model.to(request.device).requires_grad_(False)
    return cascade_detector_of(model, text, proposer=request.proposer, dtype=request.dtype)


CASCADE = FileKind(lambda file, _request: is_cascade_file(file.path, file.state), _open)


def cascade_detector_of(
    model: CascadeDetic,
    text: TextEncoder,
    *,
    proposer: Proposer | None = None,
    dtype: torch.dtype = torch.float32,
) -> Detector:
    """A detector with the weights of a model, which are shared, not copied.

    Args:
        model: On the device to detect on, frozen.
        text: The tower that names classes.
        proposer: Where boxes come from; ``None`` takes the model's own heatmap.
        dtype: What the networks compute in.
    """
    regions = CascadeRegions(model, dtype=dtype)
    parts = DetectorParts(
        encoder=UnitPrompts(text),
        regions=regions,
        proposer=proposer,
        localizer=CascadeLocalizer(regions),
        scorer=CascadeScorer(model),
        mask_head=model.mask_head,
    )
    return ready(model, parts, text)
