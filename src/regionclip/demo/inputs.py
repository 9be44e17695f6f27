"""What visitors give, checked: every error is one sentence that they can act on."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from regionclip.concepts.class_names import BUILTIN_LISTS
from regionclip.concepts.templates import TEMPLATES, prompt_templates
from regionclip.concepts.typed_names import split_names

MAX_PROMPTS = 4000
"""Texts encoded for one request: seconds on two cores, for a large text tower too."""
MAX_TEXT = 40_000
"""Characters of a list of names."""
MAX_SENTENCES = 2000
"""Characters of the prompts."""
MAX_PHRASE = 500
"""Characters of a phrase: more than any text tower reads."""


class InputError(ValueError):
    """A visitor asked for something that cannot be done; the message says what can."""


@dataclass(frozen=True, slots=True)
class Field:
    """A number that visitors set.

    Attributes:
        label: What the page calls it.
        low: The least.
        high: The most.
        step: Between neighbours.
    """

    label: str
    low: float | int
    high: float | int
    step: float | int

    def number(self, value: object) -> float:
        """What was sent for it, checked here too: a browser may send anything.

        Raises:
            InputError: The field is empty, holds no number, or one out of range.
        """
        is_boolean = isinstance(value, bool)
        if isinstance(value, int | float) and not is_boolean and self.low <= value <= self.high:
            return float(value)
        said = "is empty" if value is None or value == "" else f"cannot be {value!r}"[:60]
        raise InputError(f'"{self.label}" {said}; give a number from {self.low:g} to {self.high:g}')

    def whole(self, value: object) -> int:
        """Likewise, of a field of whole numbers."""
        return round(self.number(value))


NUM_REGIONS = Field("Most regions", 10, 1000, 10)
MIN_SCORE = Field("Lowest score", 0, 1, 0.01)
NMS_IOU = Field("Overlap (NMS IoU) of boxes of a name", 0, 1, 0.05)
MAX_BOXES = Field("Most boxes", 1, 300, 1)
NUM_NEAREST = Field("Nearest regions shown", 1, 48, 1)
MIN_SIMILARITY = Field("Least similarity", 0, 1, 0.01)


def checked_text(text: str | None, label: str, *, most: int) -> str:
    """What was typed; an empty field may arrive as nothing at all.

    Args:
        text: From a browser.
        label: What the page calls the field.
        most: Characters.

    Raises:
        InputError: It is longer.
    """
    text = text or ""
    if len(text) > most:
        raise InputError(
            f'"{label}" has {len(text)} characters, and this demo reads {most} at most; shorten it'
        )
    return text


def typed_names(text: str) -> tuple[str, ...]:
    """Names as :func:`~regionclip.concepts.typed_names.split_names` takes them, each of them once.

    Nothing is read from files: visitors are strangers.

    Raises:
        InputError: They cannot be used.
    """
    try:
        names = (name.strip() for name in split_names(text))
        return tuple(dict.fromkeys(name for name in names if name))
    except ValueError as error:
        raise InputError(str(error)) from error


def checked_vocabulary(
    names: str | None, negatives: str | None, templates: str | None
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Names to look for, names that only compete, and prompts, from what was typed.

    A name typed in both places is looked for.

    Raises:
        InputError: There are no names, one that cannot be used, too many of them for so many
            prompts, no such prompts, or more text than is read.
    """
    wanted = typed_names(checked_text(names, "Names", most=MAX_TEXT))
    if not wanted:
        raise InputError(
            "no names to look for; type some, as in: cat, remote control (or the name of a list: "
            f"{', '.join(BUILTIN_LISTS)})"
        )
    competing = checked_text(negatives, "Negative names", most=MAX_TEXT)
    others = tuple(each for each in typed_names(competing) if each not in wanted)
    sentences = typed_templates(templates)
    check_number(len(wanted) + len(others), len(sentences))
    return wanted, others, sentences


def check_number(num_names: int, num_templates: int) -> None:
    """Refuse more texts than one visitor may have encoded.

    Raises:
        InputError: There are more than :data:`MAX_PROMPTS`.
    """
    num_prompts = num_names * num_templates
    if num_prompts <= MAX_PROMPTS:
        return
    most = MAX_PROMPTS // num_templates
    way_out = f"give at most {most} names"
    if num_templates > 1:
        way_out += f', or choose the prompts "photo", which take {MAX_PROMPTS}'
    raise InputError(
        f"{num_names} names in {num_templates} prompts each are {num_prompts} texts, more than the "
        f"{MAX_PROMPTS} that this demo encodes at once; {way_out}"
    )


def typed_templates(text: str | None) -> tuple[str, ...]:
    """A built-in set of prompts, or sentences of one's own, one per line.

    Raises:
        InputError: It is neither.
    """
    text = checked_text(text, "Prompts", most=MAX_SENTENCES)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    try:
        is_own = any("{" in line for line in lines) or len(lines) > 1
        return prompt_templates(lines if is_own else text.strip())
    except ValueError as error:
        raise InputError(
            f"the prompts {text.strip()!r} cannot be used; choose one of {', '.join(TEMPLATES)}, "
            "or write sentences with one {} for the name, as in: a photo of a {}."
        ) from error


def foreign_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names without a single Latin letter, of which most models have never read any."""
    return tuple(
        name
        for name in names
        if any(each.isalpha() for each in name)
        and not any(unicodedata.name(each, "").startswith("LATIN") for each in name)
    )
