"""Region vectors, class embeddings and objectness, to scores."""

from .cosine import class_logits, class_scores
from .geometric_mean import class_exponents, fuse_geometric_mean
from .objectness import ObjectnessFusion, fuse_objectness, score_bound

__all__ = [
    "ObjectnessFusion",
    "class_exponents",
    "class_logits",
    "class_scores",
    "fuse_geometric_mean",
    "fuse_objectness",
    "score_bound",
]
