"""What visitors give, checked: every error is one sentence that they can act on."""

import re
import shutil
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from regionclip.concepts.class_names import BUILTIN_LISTS, builtin_names
from regionclip.concepts.templates import TEMPLATES, prompt_templates
from regionclip.data.images import ImageReadError, read_header, read_image

MAX_PIXELS = 40_000_000
"""Of a picture: a request of one visitor must not take the memory of all."""
MAX_PROMPTS = 4000
"""Texts encoded for one request: seconds on two cores, for a large text tower too."""
MIN_SIDE = 16
"""Pixels; less shows nothing."""

BOX_SIDE = 4
"""Pixels that a drawn box must have at least, each way: less is a click that slipped."""


class InputError(ValueError):
    """A visitor asked for something that cannot be done; the message says what can."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An image that can be read, as often as it takes.

    Attributes:
        path: A file of the demo's own.
        name: What its owner calls it.
        size_hw: Height and width of what is read, upright.
    """

    path: Path
    name: str
    size_hw: tuple[int, int]


def take_picture(
    upload: Path, folder: Path, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> Picture:
    """Copy an uploaded file into ``folder`` once it has proved to be an image, whole.

    Args:
        upload: The file.
        folder: Exists.
        name: What its owner calls it; by default the file's own name.
        max_pixels: More are refused before they are decoded.

    Raises:
        InputError: It is no image, damaged, too large or too small.
    """
    name = upload.name if name is None else name
    try:
        height, width = read_header(upload).size_hw
        if height * width > max_pixels:
            raise InputError(
                f"{name} has {width} x {height} = {height * width / 1e6:.0f} megapixels, and this "
                f"demo takes {max_pixels / 1e6:.0f} at most; shrink it or cut it"
            )
        read_image(upload, max_pixels=max_pixels)
    except ImageReadError as error:
        raise InputError(str(error).replace(str(upload), name)) from error
    if min(height, width) < MIN_SIDE:
        raise InputError(
            f"{name} has {width} x {height} pixels, too few to show anything; give an image of at "
            f"least {MIN_SIDE} x {MIN_SIDE}"
        )
    path = folder / f"{len(list(folder.iterdir())):04d}-{_safe(name)}"
    shutil.copyfile(upload, path)
    return Picture(path, name, (height, width))


def typed_names(text: str) -> tuple[str, ...]:
    """Names from what was typed: with commas, one per line, or a built-in list's name.

    Names typed twice count once. Nothing is read from files: visitors are strangers.
    """
    if text.strip() in BUILTIN_LISTS:
        return builtin_names(text.strip())
    parts = (" ".join(part.split()) for line in text.splitlines() for part in line.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def checked_vocabulary(
    names: str, negatives: str, templates: str
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Names to look for, names that only compete, and prompts, from what was typed.

    A name typed in both places is looked for.

    Raises:
        InputError: There are no names, too many of them for so many prompts, or no such prompts.
    """
    wanted = typed_names(names)
    if not wanted:
        raise InputError(
            "no names to look for; type some, as in: cat, remote control (or the name of a list: "
            f"{', '.join(BUILTIN_LISTS)})"
        )
    others = tuple(each for each in typed_names(negatives) if each not in wanted)
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


def typed_templates(text: str) -> tuple[str, ...]:
    """A built-in set of prompts, or sentences of one's own, one per line.

    Raises:
        InputError: It is neither.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    try:
        is_own = any("{" in line for line in lines) or len(lines) > 1
        return prompt_templates(lines if is_own else text.strip())
    except ValueError as error:
        raise InputError(
            f"the prompts {text.strip()!r} cannot be used; choose one of {', '.join(TEMPLATES)}, "
            "or write a sentence with {} for the name, as in: a photo of a {}."
        ) from error


def foreign_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names without a single Latin letter, of which most models have never read any."""
    return tuple(
        name
        for name in names
        if any(each.isalpha() for each in name)
        and not any(unicodedata.name(each, "").startswith("LATIN") for each in name)
    )


def checked_box(box: Sequence[float | int], picture: Picture) -> list[float]:
    """A drawn box, its corners in order and inside the picture.

    Raises:
        InputError: It is too small, or no box.
    """
    height, width = picture.size_hw
    corners = torch.tensor([float(each) for each in box])
    if corners.shape != (4,) or not corners.isfinite().all():
        raise InputError("that is no box; press the mouse on one corner and let go on the other")
    x0, x1 = sorted(corners[[0, 2]].clamp(0, width).tolist())
    y0, y1 = sorted(corners[[1, 3]].clamp(0, height).tolist())
    if x1 - x0 < BOX_SIDE or y1 - y0 < BOX_SIDE:
        raise InputError(
            "that box is too small; press the mouse on one corner of the object, draw, and let go "
            "on the opposite corner"
        )
    return [x0, y0, x1, y1]


def _safe(name: str) -> str:
    """A file's name that holds nothing but letters, digits, dots and dashes."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name)[-40:].lstrip(".")
