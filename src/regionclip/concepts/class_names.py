"""Class lists of the field's data sets, names only, and lists of your own."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

BUILTIN_LISTS = (
    "coco80",
    "coco65",
    "coco48",
    "coco17",
    "lvis1203",
    "lvis866",
    "lvis337",
    "voc20",
    "objects365",
    "diverse_weather7",
    "icons",
)
"""COCO: all classes, base and novel together, base, novel (split of OVR-CNN, arXiv:2011.10678);
LVIS: all, frequent and common, rare; Pascal VOC; Objects365 v2, spelling corrected; Diverse
Weather; the pictograms of :mod:`regionclip.data.icons`. Each in the order of the data set's ids."""


def builtin_names(name: str) -> tuple[str, ...]:
    """Names of a list in :data:`BUILTIN_LISTS`.

    Raises:
        ValueError: There is no such list.
    """
    if name not in BUILTIN_LISTS:
        raise ValueError(
            f"unknown class list {name!r}; expected one of {', '.join(BUILTIN_LISTS)}, or give "
            "the names themselves as a list"
        )
    if name == "icons":
        from regionclip.data.icons import CLASS_NAMES

        return CLASS_NAMES
    lists = _shipped_lists()
    if name == "coco65":
        split = {*lists["coco48"], *lists["coco17"]}
        return tuple(each for each in lists["coco80"] if each in split)
    if name == "lvis866":
        rare = set(lists["lvis337"])
        return tuple(each for each in lists["lvis1203"] if each not in rare)
    return lists[name]


def names_by_count(num_classes: int, lists: Mapping[int, str]) -> tuple[str, tuple[str, ...]]:
    """How classes are called of which a file gives vectors and no names.

    Args:
        num_classes: Vectors.
        lists: Built-in lists that they may be of, by their number of classes.

    Returns:
        The built-in list and no names; or, without one of that many classes, ``class 0`` and on.
    """
    if num_classes in lists:
        return lists[num_classes], ()
    return "", tuple(f"class {number}" for number in range(num_classes))


def note_on_counted_names(source: str, num_classes: int, list_name: str) -> str:
    """What to say of names that :func:`names_by_count` gave.

    Args:
        source: The file.
        num_classes: Its vectors.
        list_name: The built-in list; empty for numbers.
    """
    taken = (
        f"the names of {list_name}, in its order, are taken, since it has as many"
        if list_name
        else "no list known here has as many, and they are called 'class 0' and on"
    )
    return f"{source} has vectors of {num_classes} classes and does not say which: {taken}"


def builtin_ids(name: str) -> tuple[int, ...]:
    """The data set's own numbers of a list's classes, in the order of :func:`builtin_names`.

    COCO's are 1 to 90 with gaps; LVIS's count from 1 in the order of all 1203.

    Raises:
        ValueError: There is no such list, or its data set numbers nothing.
    """
    names = builtin_names(name)
    if name.startswith("coco"):
        id_of = dict(zip(builtin_names("coco80"), _shipped()["coco80_ids"], strict=True))
    elif name.startswith("lvis"):
        id_of = {each: place for place, each in enumerate(builtin_names("lvis1203"), start=1)}
    else:
        raise ValueError(f"the list {name!r} has no ids; those of COCO and LVIS have")
    return tuple(id_of[each] for each in names)


def read_names(path: str | Path) -> tuple[str, ...]:
    """Read a text file with one name per line; blank lines are passed over.

    Raises:
        ValueError: The file is missing, is no text, or its names are not usable.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8; expected one class name per line") from error
    return checked_names([line for line in lines if line.strip()], source=str(path))


def checked_names(names: Sequence[str], *, source: str = "the class names") -> tuple[str, ...]:
    """Names without surrounding blanks, each of them once.

    Args:
        names: In the order of the labels.
        source: How errors call them.

    Raises:
        ValueError: There are none, one is empty, one occurs twice, or a single string is given.
    """
    if isinstance(names, str):
        raise ValueError(f"expected a list of names, got one string; write [{names!r}]")
    stripped = tuple(name.strip() for name in names)
    if not stripped:
        raise ValueError(f"{source} are empty; give at least one name")
    first_at: dict[str, int] = {}
    for index, name in enumerate(stripped):
        if not name:
            raise ValueError(f"name {index} of {source} is empty; remove it")
        if name in first_at:
            raise ValueError(
                f"names {first_at[name]} and {index} of {source} are both {name!r}; a class can "
                "be named once"
            )
        first_at[name] = index
    return stripped


def plain_name(name: str) -> str:
    """A name without what data sets differ in: underscores, blanks, upper case."""
    return " ".join(name.replace("_", " ").split()).casefold()


def _shipped_lists() -> dict[str, tuple[str, ...]]:
    return {name: names for name, names in _shipped().items() if name in BUILTIN_LISTS}


@cache
def _shipped() -> dict[str, tuple[Any, ...]]:
    text = (files("regionclip") / "assets" / "class_names.json").read_text(encoding="utf-8")
    return {name: tuple(values) for name, values in json.loads(text).items()}
