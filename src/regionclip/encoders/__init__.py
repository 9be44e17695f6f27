"""Image and text towers: pixels to maps and vectors, words to vectors of the same space."""

from .clip_resnet import ClipResNet, ClipResNetSpec
from .text import class_embeddings

__all__ = ["ClipResNet", "ClipResNetSpec", "class_embeddings"]
