"""Region vectors, class embeddings and objectness, to scores."""

from .cosine import class_logits, class_scores
from .objectness import ObjectnessFusion, fuse_objectness, score_bound

__all__ = ["ObjectnessFusion", "class_logits", "class_scores", "fuse_objectness", "score_bound"]
