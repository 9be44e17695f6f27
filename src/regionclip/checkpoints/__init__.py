"""Checkpoint files in and out: read without running code, loaded whole or not at all."""

from .errors import CheckpointError
from .native import (
    NativeMetadata,
    is_native,
    read_native_metadata,
    save_native,
    save_tensors,
    set_encoder_id,
)
from .reading import BARE_TENSOR, checkpoint_format, read_checkpoint, read_training_settings
from .strict import LoadReport, WithoutRandomWeights, load_strict

__all__ = [
    "BARE_TENSOR",
    "CheckpointError",
    "LoadReport",
    "NativeMetadata",
    "WithoutRandomWeights",
    "checkpoint_format",
    "is_native",
    "load_strict",
    "read_checkpoint",
    "read_native_metadata",
    "read_training_settings",
    "save_native",
    "save_tensors",
    "set_encoder_id",
]
