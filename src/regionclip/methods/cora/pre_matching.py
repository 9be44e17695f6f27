"""Anchor pre-matching: which class each anchor looks for, before any box is found."""

from collections.abc import Collection, Sequence
from operator import index
from typing import SupportsIndex

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regionclip.concepts.class_names import plain_name
from regionclip.scoring.cosine import TEMPERATURE, class_logits

BACKGROUND_SIMILARITY = -1.0
"""Similarity of the column that stands for no class; tgxs002/CORA@c334a6d ``--bg_threshold``."""


def match_anchors(
    anchor_features: Float[Tensor, "B Q D"],
    class_embeddings: Float[Tensor, "C D"],
    *,
    class_factors: Float[Tensor, " C"] | None = None,
    temperature: float = TEMPERATURE,
) -> Int[Tensor, "B Q"]:
    """The most probable class of each anchor.

    Args:
        anchor_features: From :meth:`~.model.Cora.anchor_features`.
        class_embeddings: Any length; a row of zeros has similarity 0 to everything.
        class_factors: What each class's probability is multiplied by; see :func:`novel_factors`.
        temperature: Divides cosine similarities.

    Raises:
        ValueError: There is no class.

    Source:
        CORA (arXiv:2303.13076), sec. 3, anchor pre-matching.
    """
    if len(class_embeddings) == 0:
        raise ValueError("anchors need at least one class to look for, got no class embeddings")
    probabilities = anchor_probabilities(
        anchor_features, class_embeddings, class_factors=class_factors, temperature=temperature
    )
    return probabilities.argmax(dim=-1)


def anchor_probabilities(
    anchor_features: Float[Tensor, "B Q D"],
    class_embeddings: Float[Tensor, "C D"],
    *,
    class_factors: Float[Tensor, " C"] | None = None,
    temperature: float = TEMPERATURE,
) -> Float[Tensor, "B Q C"]:
    """Softmax over the classes and a background, whose column is left out, times the factors.

    Arguments as those of :func:`match_anchors`; with factors, a row may sum to more than one.
    """
    logits = class_logits(anchor_features.flatten(0, 1), class_embeddings, temperature=temperature)
    background = logits.new_full((len(logits), 1), BACKGROUND_SIMILARITY / temperature)
    scores = torch.cat([logits, background], dim=1).softmax(dim=1)[:, :-1]
    if class_factors is not None:
        scores = scores * class_factors.to(scores)
    return scores.unflatten(0, anchor_features.shape[:2])


def novel_factors(
    class_names: Sequence[str],
    *,
    factor: float,
    base: Collection[str] = (),
    novel: Sequence[str | SupportsIndex] | None = None,
) -> Float[Tensor, " C"]:
    """Favour the classes whose boxes the localiser was not trained on.

    Names are compared without what data sets differ in: underscores, blanks, upper case.

    Args:
        class_names: In the order of the labels.
        factor: What the probability of a novel class is multiplied by.
        base: Names that are not novel; all others are.
        novel: The novel classes themselves, by name or by place in ``class_names``; then ``base``
            plays no role. A name that is not among ``class_names`` says nothing.

    Raises:
        ValueError: ``novel`` has a place that is not in ``class_names``.

    Source:
        tgxs002/CORA@c334a6d ``--target_class_factor``, which knows the novel classes of COCO and
        LVIS by their number only.
    """
    names = [plain_name(name) for name in class_names]
    if novel is None:
        known = {plain_name(name) for name in base}
        is_novel = [name not in known for name in names]
    else:
        wanted = {plain_name(each) for each in novel if isinstance(each, str)}
        # numpy's numbers and torch's too
        places = {index(each) for each in novel if not isinstance(each, str)}
        wrong = [each for each in places if not 0 <= each < len(names)]
        if wrong:
            raise ValueError(
                f"novel class {wrong[0]} is not among {len(names)} classes, which count from 0"
            )
        is_novel = [place in places or name in wanted for place, name in enumerate(names)]
    return torch.where(torch.tensor(is_novel, dtype=torch.bool), factor, 1.0)
