"""F-ViT and F-VLM models as detectors that are ready for use."""

import torch

from regionclip.detect import DetectOptions, Detector
from regionclip.detector_parts import DetectorParts
from regionclip.encoders.class_token_maps import PatchTowers
from regionclip.encoders.text import MissingTextTower, TextEncoder, UnitPrompts, encode_texts
from regionclip.loading.request import FileKind, LoadOptions, LoadRequest, OpenFile
from regionclip.methods import known_weights
from regionclip.methods.fvit.detecting import FvitLocalizer, FvitRegions, FvitScorer
from regionclip.methods.fvit.model import Fvit, transfer_to
from regionclip.methods.fvit.reading import ReadFvit, is_fvit_file, read_model
from regionclip.proposals.proposer import Proposer
from regionclip.vocabulary import Vocabulary, builtin_names


def _open(file: OpenFile, request: LoadRequest) -> Detector:
    if request.regions != "map" or request.region_prompt is not None:
        raise ValueError(
            f"{request.name} is a detector on the maps of a frozen CLIP; leave out regions and "
            "region_prompt"
        )
    read = read_model(file.path, file.state)
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
    if request.transfer_to is not None:
        transfer_to(read.model, request.transfer_to)
    model = read.model.to(request.device).requires_grad_(False)
    text = fvit_text_of(read, other)
    return fvit_detector_of(model, text, proposer=request.proposer, dtype=request.dtype)


FVIT = FileKind(lambda file, _request: is_fvit_file(file.path, file.state), _open)


def fvit_detector_of(
    model: Fvit,
    text: TextEncoder,
    *,
    proposer: Proposer | None = None,
    dtype: torch.dtype = torch.float32,
) -> Detector:
    """A detector with the weights of a model, which are shared, not copied.

    Args:
        model: On the device to detect on, frozen.
        text: The tower that names classes: that of the model's CLIP.
        proposer: Where boxes come from; ``None`` takes the model's own network.
        dtype: What the networks compute in.
    """
    config = model.config
    regions = FvitRegions(model, dtype=dtype)
    parts = DetectorParts(
        encoder=UnitPrompts(text),
        regions=regions,
        proposer=proposer,
        localizer=FvitLocalizer(regions),
        scorer=FvitScorer(model),
        dense_tower=model.encoder if isinstance(model.encoder, PatchTowers) else None,
        mask_head=model.mask_head,
        class_vocabulary=own_classes(model, text.encoder_id),
        templates=config.templates,
        temperature=1 / config.clip_scale,
        shortest_side=config.image_size,
        longest_side=config.image_size,
        size_rule="longest",
    )
    options = DetectOptions(
        selection=config.selection, objectness_fusion="none", use_box_deltas=True
    )
    return Detector(parts, options)


def own_classes(model: Fvit, encoder_id: str) -> Vocabulary | None:
    """The classes that a model carries vectors of."""
    config = model.config
    names = builtin_names(config.class_names) if config.class_names else config.own_class_names
    if not names:
        return None
    rows = model.class_embeddings.detach().cpu()
    return Vocabulary(names, rows, templates=(), encoder_id=encoder_id)


def fvit_text_of(read: ReadFvit, other: Detector | None = None) -> TextEncoder:
    """The model's own text tower, another's, or one that says that there is none.

    Args:
        read: A model.
        other: A model of the same space that lends its text tower; only the width of its vectors
            is checked.

    Raises:
        ValueError: The other model's vectors are of another width.
    """
    tower = read.model.tower
    if other is None:
        if read.has_text_tower:
            return read.model.encoder
        lenders = (
            name
            for name, entry in known_weights().items()
            if entry.encoder == tower.name and not entry.variant
        )
        return MissingTextTower(tower.name, lender=next(lenders, None))
    width = encode_texts(other.parts.encoder, ["a"]).shape[1]
    if width != tower.embed_dim:
        raise ValueError(
            f"text vectors of {width} numbers do not go with {tower.name}, whose regions have "
            f"{tower.embed_dim}; give text_weights of the CLIP that was frozen"
        )
    return other.parts.encoder
