"""From the name or file of a model to a detector; one module for each kind of file."""

from .cora import cora_detector_of
from .kinds import DTYPES, KINDS, Precision, check_known, load, model_file, proposals_only
from .proposals import open_proposals, proposals_file
from .regionclip import detector_of, region_embedder, text_encoder_of, text_tower_of
from .request import LoadOptions, is_open_clip_name

__all__ = [
    "DTYPES",
    "KINDS",
    "LoadOptions",
    "Precision",
    "check_known",
    "cora_detector_of",
    "detector_of",
    "is_open_clip_name",
    "load",
    "model_file",
    "open_proposals",
    "proposals_file",
    "proposals_only",
    "region_embedder",
    "text_encoder_of",
    "text_tower_of",
]
