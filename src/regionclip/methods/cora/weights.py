"""CORA's released files: recognised by their keys and shapes, and their names for our tensors."""

from regionclip.weights import WeightsEntry

WEIGHTS: dict[str, WeightsEntry] = {}
