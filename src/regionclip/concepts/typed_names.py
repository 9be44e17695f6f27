"""Class names as people type them: one text, wherever it is typed."""

import json
import re

from regionclip.concepts.class_names import BUILTIN_LISTS, builtin_names

SEPARATOR = re.compile("[,;\uff0c\u3001\uff1b\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
"""Commas and semicolons, those of Chinese and Japanese keyboards too, and line ends."""
FILE_SUFFIXES = (".txt", ".csv", ".json", ".safetensors", ".pth", ".pt", ".npy")
PLAIN_WORDS = ("objects",)
"""What is left of a list's name without its number, and looked for by people who mean no list."""


def split_names(text: str) -> tuple[str, ...]:
    """Names in their order, as often as they are there; blank ones are passed over.

    Args:
        text: Names with :data:`SEPARATOR` between them, where the name of a built-in list stands
            for its names; or a JSON list of strings, which are taken as they are.

    Raises:
        ValueError: It begins with a bracket and is no JSON list of strings, or a name is a file's,
            or nearly that of a list.
    """
    if text.lstrip().startswith("["):
        return _listed(text)
    names: list[str] = []
    for part in SEPARATOR.split(text):
        name = " ".join(part.split())
        if name in BUILTIN_LISTS:
            names += builtin_names(name)
        elif name:
            _check_name(name)
            names.append(name)
    return tuple(names)


def near_lists(name: str) -> tuple[str, ...]:
    """Built-in lists that a name may stand for without being one's: ``coco``, ``LVIS-1203``."""
    plain = _letters_and_digits(name)
    same = tuple(each for each in BUILTIN_LISTS if _letters_and_digits(each) == plain)
    if same or plain in PLAIN_WORDS:
        return same
    stem = plain.rstrip("0123456789")
    return tuple(
        each for each in BUILTIN_LISTS if _letters_and_digits(each).rstrip("0123456789") == stem
    )


def _listed(text: str) -> tuple[str, ...]:
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"the names {text[:40]!r} begin like a list in JSON and are none; write "
            '["cat", "remote control"], or names with commas and without brackets'
        )
    return tuple(names)


def _check_name(name: str) -> None:
    as_list = json.dumps([name[:40]], ensure_ascii=False)
    if name.lower().endswith(FILE_SUFFIXES):
        raise ValueError(
            f"{name[:40]!r} is a file's name, and names are read from none here; give the names "
            f"themselves, with commas, or as a list in JSON if that is one: {as_list}"
        )
    if near := near_lists(name):
        raise ValueError(
            f"there is no list {name[:40]!r}; did you mean {' or '.join(near)}? What is called so "
            f"is named in a list in JSON: {as_list}"
        )


def _letters_and_digits(name: str) -> str:
    return "".join(each for each in name.casefold() if each.isalnum())
