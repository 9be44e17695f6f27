"""From the name of an open_clip model, which open_clip itself downloads, to a detector."""

from regionclip.dense_loading import dense_parts
from regionclip.detect import Detector, DetectorParts
from regionclip.encoders.crop_encoder import OpenClipEncoder
from regionclip.encoders.dense import usual_longest_side
from regionclip.encoders.dense_open_clip import dense_form_of
from regionclip.loading_request import LoadRequest
from regionclip.regions.crops import CropRegions
from regionclip.regions.dense_regions import DenseRegions


def open_named(request: LoadRequest) -> Detector:
    """Make a detector of ``tag:architecture``.

    Regions come from the dense map where the architecture has a sound one, else from whole crops:
    ``docs/dense_encoders.md`` lists which.

    Raises:
        ValueError: open_clip does not know the name, or the options do not go with it.
    """
    request.refuse_text_weights("runs with its own text tower")
    request.refuse_region_prompt()
    request.refuse_activation()
    tag, _, architecture = request.name.partition(":")
    encoder = OpenClipEncoder.create(architecture, tag).to(request.device)
    dense = dense_form_of(encoder)
    if request.regions == "crops" or (request.regions == "map" and dense is None):
        embedder = CropRegions(encoder, dtype=request.dtype, memory_budget=request.memory_budget)
        parts = DetectorParts(encoder=encoder, regions=embedder, proposer=request.proposer)
        return Detector(parts)
    if dense is None or request.regions not in ("map", "dense"):
        raise ValueError(
            f"{request.name} has no regions {request.regions!r}; use 'map', or 'crops' for whole "
            "crops"
        )
    embedder = DenseRegions(dense, dtype=request.dtype, memory_budget=request.memory_budget)
    longest_side = usual_longest_side(dense.cell)
    return Detector(
        dense_parts(dense, embedder, proposer=request.proposer, longest_side=longest_side)
    )
