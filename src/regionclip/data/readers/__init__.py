"""Data sets from the files that people keep them in: one module per format, one result."""

from .opening import open_dataset

__all__ = ["open_dataset"]
