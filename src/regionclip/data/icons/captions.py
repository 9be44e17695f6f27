"""Sentences about drawn images: what is there, sometimes its colour, size and place."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from regionclip.concepts.templates import TEMPLATES, fill_template

from .glyphs import CLASS_NAMES, plural, with_article

COLOR_SHARE = 0.3
"""Captions that name a colour; with one in every caption, colour is learned instead of shape."""
_COUNTS = {2: "two", 3: "three", 4: "four", 5: "five"}
_TEMPLATES = TEMPLATES["imagenet80"]
_PLAIN_TEMPLATE = "a photo of a {}."


def close_up_caption(rng: np.random.Generator, name: str, color: str) -> str:
    """A caption about one icon in the words that detection asks with, often ``a photo of a``."""
    phrase = f"{color} {name}" if rng.random() < COLOR_SHARE else name
    is_plain = rng.random() < 0.5
    template = _PLAIN_TEMPLATE if is_plain else _TEMPLATES[rng.integers(len(_TEMPLATES))]
    return fill_template(template, phrase)


def scene_caption(
    rng: np.random.Generator,
    names: Sequence[str],
    colors: Sequence[str],
    boxes: np.ndarray,
    size: int,
) -> str:
    """A sentence about one or two kinds of icon, such as ``an umbrella left of two anchors``.

    Args:
        rng: Source of all chance.
        names: Class of each icon.
        colors: Colour of each icon.
        boxes: ``(N, 4)``, ``xyxy`` in pixels.
        size: Pixels a side of the scene.
    """
    if not names:
        return "an empty picture"
    counts = Counter(names)
    order = rng.permutation(len(names))
    first = int(order[0])
    subject = _noun_phrase(rng, names, colors, boxes, first, size)
    others = [int(icon) for icon in order if names[icon] != names[first]]
    if not others:
        return subject
    second = others[0]
    other = _noun_phrase(rng, names, colors, boxes, second, size)
    if counts[names[first]] > 1 or counts[names[second]] > 1:
        return f"{subject} and {other}"
    return f"{subject} {_relation(boxes[first], boxes[second])} {other}"


def names_in_caption(caption: str) -> frozenset[str]:
    """The classes that a caption names."""
    words = f" {caption.lower().rstrip('.')} "
    return frozenset(
        name for name in CLASS_NAMES if f" {name} " in words or f" {plural(name)} " in words
    )


def _noun_phrase(
    rng: np.random.Generator,
    names: Sequence[str],
    colors: Sequence[str],
    boxes: np.ndarray,
    icon: int,
    size: int,
) -> str:
    same = [colors[other] for other, name in enumerate(names) if name == names[icon]]
    color = f"{colors[icon]} " if rng.random() < COLOR_SHARE and len(set(same)) == 1 else ""
    if len(same) > 1:
        return f"{_COUNTS[len(same)]} {color}{plural(names[icon])}"
    side = float(max(boxes[icon, 2] - boxes[icon, 0], boxes[icon, 3] - boxes[icon, 1])) / size
    extent = "small " if side < 0.26 else "large " if side > 0.42 else ""
    extent = extent if rng.random() < 0.5 else ""
    return with_article(f"{extent}{color}{names[icon]}")


def _relation(subject: np.ndarray, other: np.ndarray) -> str:
    dx = (other[0] + other[2] - subject[0] - subject[2]) / 2
    dy = (other[1] + other[3] - subject[1] - subject[3]) / 2
    if abs(dx) >= abs(dy):
        return "left of" if dx > 0 else "right of"
    return "above" if dy > 0 else "below"
