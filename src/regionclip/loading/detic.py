"""Detic models as detectors that are ready for use."""

from dataclasses import replace

import torch

from regionclip.detect import DetectOptions, Detector
from regionclip.detector_parts import DetectorParts
from regionclip.encoders.text import MissingTextTower, TextEncoder, UnitPrompts, encode_texts
from regionclip.loading.request import FileKind, LoadOptions, LoadRequest, OpenFile
from regionclip.methods.detic.cascade_model import CascadeDetic
from regionclip.methods.detic.cascade_reading import ReadCascade
from regionclip.methods.detic.detecting import DeticLocalizer, DeticRegions, DeticScorer
from regionclip.methods.detic.model import Detic
from regionclip.methods.detic.reading import ReadDetic, is_detic_file, read_model
from regionclip.proposals.proposer import Proposer
from regionclip.vocabulary import Vocabulary, builtin_names


def _open(file: OpenFile, request: LoadRequest) -> Detector:
    read = read_model(file.path, file.state)
    text = requested_text(read, request)
    model = read.model.to(request.device).requires_grad_(False)
    return detic_detector_of(model, text, proposer=request.proposer, dtype=request.dtype)


def requested_text(read: ReadDetic | ReadCascade, request: LoadRequest) -> TextEncoder:
    """The text tower of a model that was read, or the one that was asked for.

    Raises:
        ValueError: What was asked for does not go with the model.
    """
    if request.regions != "map" or request.region_prompt is not None:
        raise ValueError(
            f"{request.name} is a detector with an image tower of its own; leave out regions and "
            "region_prompt"
        )
    if read.has_text_tower:
        request.refuse_text_weights("runs with its own text tower")
    other = None
    if request.text_weights is None:
        request.refuse_activation()
    else:
        # not before: what opens any file knows this one
        from regionclip.loading import load

        options = LoadOptions(progress=request.progress, activation=request.activation)
        other = load(request.text_weights, device=request.device, options=options)
    return detic_text_of(read, other)


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
        class_vocabulary=own_classes(model, text.encoder_id),
        templates=config.templates,
        temperature=1 / config.similarity_scale,
        shortest_side=config.shortest_side,
        longest_side=config.longest_side,
    )
    options = DetectOptions(
        selection=config.selection, objectness_fusion="none", use_box_deltas=True
    )
    return Detector(parts, options)


def own_classes(model: Detic | CascadeDetic, encoder_id: str) -> Vocabulary | None:
    """The classes that a model carries vectors of."""
    config = model.config
    names = builtin_names(config.class_names) if config.class_names else config.own_class_names
    if not names:
        return None
    rows = model.class_embeddings.detach().cpu()
    return Vocabulary(names, rows, templates=(), encoder_id=encoder_id)


def detic_text_of(read: ReadDetic | ReadCascade, other: Detector | None = None) -> TextEncoder:
    """The model's own text tower, another's, or one that says that there is none.

    Args:
        read: A model.
        other: A model of the same space that lends its text tower; only the width of its vectors
            is checked.

    Raises:
        ValueError: The other model's vectors are of another width.
    """
    spec = read.model.config.text
    if other is None:
        return read.model.encoder if read.has_text_tower else MissingTextTower(spec.name)
    width = encode_texts(other.parts.encoder, ["a"]).shape[1]
    if width != spec.embed_dim:
        raise ValueError(
            f"text vectors of {width} numbers do not go with this detector, whose regions have "
            f"{spec.embed_dim}; give text_weights of the CLIP that named its classes, "
            f"{spec.name}"
        )
    return other.parts.encoder
