"""F-ViT and F-VLM models as detectors that are ready for use."""

import torch

from regionclip.detect import DetectOptions, Detector
from regionclip.detector_parts import DetectorParts
from regionclip.encoders.class_token_maps import PatchTowers
from regionclip.encoders.text import MissingTextTower, TextEncoder, UnitPrompts
from regionclip.loading.request import FileKind, LoadRequest, OpenFile
from regionclip.loading.words import carried_classes, lender_of, lent_words
from regionclip.methods import known_weights
from regionclip.methods.fvit.detecting import FvitLocalizer, FvitRegions, FvitScorer
from regionclip.methods.fvit.model import Fvit, transfer_to
from regionclip.methods.fvit.reading import ReadFvit, is_fvit_file, read_model
from regionclip.proposals.proposer import Proposer


def _open(file: OpenFile, request: LoadRequest) -> Detector:
    if request.regions != "map" or request.region_prompt is not None:
        raise ValueError(
            f"{request.name} is a detector on the maps of a frozen CLIP; leave out regions and "
            "region_prompt"
        )
    read = read_model(file.path, file.state)
    lender = lender_of(request, has_text_tower=read.has_text_tower)
    if request.transfer_to is not None:
        transfer_to(read.model, request.transfer_to)
    model = read.model.to(request.device).requires_grad_(False)
    text = _text_of(read, lender)
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
        crop_tower=model.encoder,
        dense_tower=model.encoder if isinstance(model.encoder, PatchTowers) else None,
        mask_head=model.mask_head,
        class_vocabulary=carried_classes(
            config.class_names, config.own_class_names, model.class_embeddings, text.encoder_id
        ),
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


def _text_of(read: ReadFvit, lender: Detector | None) -> TextEncoder:
    """The model's own text tower, the one that it is lent, or one that says that there is none."""
    tower = read.model.tower
    if lender is not None:
        wanted = "the CLIP that was frozen"
        return lent_words(lender, width=tower.embed_dim, reader=tower.name, wanted=wanted)
    if read.has_text_tower:
        return read.model.encoder
    lenders = (
        name
        for name, entry in known_weights().items()
        if entry.encoder == tower.name and not entry.variant
    )
    return MissingTextTower(tower.name, lender=next(lenders, None))
