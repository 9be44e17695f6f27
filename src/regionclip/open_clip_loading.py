"""From the name of an open_clip model, which open_clip itself downloads, to a detector."""

from regionclip.dense_loading import dense_parts
from regionclip.detect import Detector, DetectorParts
from regionclip.encoders.crop_encoder import OpenClipEncoder
from regionclip.encoders.dense import DenseEncoder, usual_longest_side
from regionclip.encoders.dense_open_clip import DenseOpenClipVit, dense_form_of
from regionclip.loading_request import LoadRequest
from regionclip.regions.crops import CropRegions
from regionclip.regions.dense_regions import DenseRegions
from regionclip.regions.embedder import RegionEmbedder
from regionclip.regions.mask_attention import MaskAttentionRegions


def open_named(request: LoadRequest) -> Detector:
    """Make a detector of ``tag:architecture``.

    Regions come from the dense map where the architecture has a sound one, else from whole crops:
    ``docs/dense_encoders.md`` lists which. Images and prompts are the same for all kinds of regions
    of one architecture.

    Raises:
        ValueError: open_clip does not know the name, or the options do not go with it.
    """
    request.refuse_text_weights("runs with its own text tower")
    request.refuse_region_prompt()
    request.refuse_activation()
    tag, _, architecture = request.name.partition(":")
    encoder = OpenClipEncoder.create(architecture, tag).to(request.device)
    dense = dense_form_of(encoder)
    embedder = _regions_of(encoder, dense, request)
    if dense is None:
        parts = DetectorParts(encoder=encoder, regions=embedder, proposer=request.proposer)
        return Detector(parts)
    longest_side = usual_longest_side(dense.cell)
    return Detector(
        dense_parts(dense, embedder, proposer=request.proposer, longest_side=longest_side)
    )


def _regions_of(
    encoder: OpenClipEncoder, dense: DenseEncoder | None, request: LoadRequest
) -> RegionEmbedder:
    kind, dtype, memory_budget = request.regions, request.dtype, request.memory_budget
    if kind == "crops" or (kind == "map" and dense is None):
        return CropRegions(encoder, dtype=dtype, memory_budget=memory_budget)
    if dense is not None and kind in ("map", "dense"):
        return DenseRegions(dense, dtype=dtype, memory_budget=memory_budget)
    if isinstance(dense, DenseOpenClipVit) and kind == "mask-attention":
        return MaskAttentionRegions(dense, dtype=dtype)
    raise ValueError(
        f"{request.name} has no regions {kind!r}; use 'map', or 'crops' for whole crops"
    )
