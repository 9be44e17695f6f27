"""Detic models as detectors that are ready for use."""

from dataclasses import replace

import torch

from regionclip.detect import DetectOptions, Detector
from regionclip.detector_parts import DetectorParts
from regionclip.encoders.text import MissingTextTower, TextEncoder, UnitPrompts
from regionclip.loading.request import FileKind, LoadRequest, OpenFile
from regionclip.loading.words import carried_classes, lender_of, lent_words
from regionclip.methods.detic.cascade_model import CascadeDetic
from regionclip.methods.detic.cascade_reading import ReadCascade
from regionclip.methods.detic.detecting import DeticLocalizer, DeticRegions, DeticScorer
from regionclip.methods.detic.model import Detic
from regionclip.methods.detic.reading import ReadDetic, is_detic_file, read_model
from regionclip.proposals.proposer import Proposer


def _open(file: OpenFile, request: LoadRequest) -> Detector:
    read = read_model(file.path, file.state)
    text = requested_text(read, request)
    model = read.model.to(request.device).requires_grad_(False)
    return detic_detector_of(model, text, proposer=request.proposer, dtype=request.dtype)


def requested_text(read: ReadDetic | ReadCascade, request: LoadRequest) -> TextEncoder:
    """The model's own text tower, the one that it is lent, or one that says that there is none.

    Raises:
        ValueError: What was asked for does not go with the model.
    """
    if request.regions != "map" or request.region_prompt is not None:
        raise ValueError(
            f"{request.name} is a detector with an image tower of its own; leave out regions and "
            "region_prompt"
        )
    lender = lender_of(request, has_text_tower=read.has_text_tower)
    spec = read.model.config.text
    if lender is not None:
        wanted = f"the CLIP that named its classes, {spec.name}"
        return lent_words(lender, width=spec.embed_dim, reader="this detector", wanted=wanted)
    return read.model.encoder if read.has_text_tower else MissingTextTower(spec.name)


DETIC = FileKind(lambda file, _request: is_detic_file(file.path, file.state), _open)


def detic_detector_of(
    model: Detic,
    text: TextEncoder,
    *,
    proposer: Proposer | None = None,
    dtype: torch.dtype = torch.float32,
) -> Detector:
    """A detector with the weights of a model, which are shared, not copied.

    Args:
        model: On the device to detect on, frozen.
        text: The tower that names classes.
        proposer: Where boxes come from; ``None`` takes the model's own network.
        dtype: What the networks compute in.
    """
    regions = DeticRegions(model, dtype=dtype)
    parts = DetectorParts(
        encoder=UnitPrompts(text),
        regions=regions,
        proposer=proposer,
        localizer=DeticLocalizer(regions),
        scorer=DeticScorer(model),
    )
    return ready(model, parts, text)


def ready(model: Detic | CascadeDetic, parts: DetectorParts, text: TextEncoder) -> Detector:
    """A detector of a model's parts that prepares images and selects as its configuration says."""
    config = model.config
    parts = replace(
        parts,
        class_vocabulary=carried_classes(
            config.class_names, config.own_class_names, model.class_embeddings, text.encoder_id
        ),
        templates=config.templates,
        temperature=1 / config.similarity_scale,
        shortest_side=config.shortest_side,
        longest_side=config.longest_side,
    )
    options = DetectOptions(
        selection=config.selection, objectness_fusion="none", use_box_deltas=True
    )
    return Detector(parts, options)
