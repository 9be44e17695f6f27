"""What a request holds, turned into images, boxes and names or refused in one sentence."""

import json
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from regionclip.concepts.class_names import checked_names
from regionclip.concepts.templates import is_sentence, prompt_templates
from regionclip.concepts.typed_names import split_names
from regionclip.data.images import ImageReadError, decode_image
from regionclip.detect import Detector
from regionclip.server.problems import RequestError
from regionclip.server.settings import Limits
from regionclip.structures import PreparedImage

UPLOAD = "the image"


def read_upload(content: bytes, detector: Detector, limits: Limits) -> PreparedImage:
    """An image file's bytes at the size that the model sees.

    Raises:
        RequestError: It cannot be read.
    """
    try:
        picture = decode_image(content, name=UPLOAD, max_pixels=limits.max_pixels)
        return detector.prepare(picture, UPLOAD)
    except ImageReadError as error:
        raise RequestError(400, str(error)) from error


def read_boxes(text: str, limits: Limits) -> Float[Tensor, "R 4"]:
    """Boxes of a JSON list, ``xyxy`` in pixels of the original image.

    Raises:
        RequestError: It is no list of boxes, or a too long one.
    """
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(
            400, f"boxes: is no JSON ({error}); send [[x0, y0, x1, y1], ...]"
        ) from error
    if not isinstance(rows, list):
        raise RequestError(400, "boxes: must be a list; send [[x0, y0, x1, y1], ...]")
    if len(rows) > limits.max_boxes:
        raise RequestError(
            400, f"boxes: {len(rows)} of them, and {limits.max_boxes} are taken; send them in parts"
        )
    for index, row in enumerate(rows):
        if not _is_box(row):
            raise RequestError(
                400, f"boxes: number {index} is not [x0, y0, x1, y1] with x0<=x1, y0<=y1"
            )
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def _is_box(row: Any) -> bool:
    if not isinstance(row, list) or len(row) != 4:
        return False
    # true and false are numbers to Python; a float32 holds no more than 3e38
    if not all(type(each) in (int, float) and abs(each) < 1e9 for each in row):
        return False
    return all(map(math.isfinite, row)) and row[0] <= row[2] and row[1] <= row[3]


def read_names(classes: str | Sequence[str], limits: Limits) -> tuple[str, ...]:
    """Names as they are typed in one text, or a list of names.

    Raises:
        RequestError: There are none, too many, or one cannot be used.
    """
    try:
        names = split_names(classes) if isinstance(classes, str) else classes
        check_texts("classes", names, limits)
        return checked_names(names)
    except ValueError as error:
        raise RequestError(400, str(error)) from error


def read_templates(templates: str | Sequence[str], limits: Limits) -> tuple[str, ...]:
    """Prompts that names are put into: of a built-in set, one, or several.

    Raises:
        RequestError: They are not known, or hold no place for the name or more than one.
    """
    asked = [templates] if isinstance(templates, str) else templates
    check_texts("templates", asked, limits)
    try:
        is_set = isinstance(templates, str) and not is_sentence(templates)
        return prompt_templates(templates if is_set else asked)
    except ValueError as error:
        raise RequestError(400, str(error)) from error


def check_texts(field: str, texts: Sequence[str], limits: Limits) -> None:
    """Refuse too many texts, and too long ones.

    Raises:
        RequestError: They are.
    """
    if len(texts) > limits.max_names:
        raise RequestError(
            400, f"{field}: {len(texts)} of them, and {limits.max_names} are taken; send fewer"
        )
    for index, text in enumerate(texts):
        if len(text) > limits.max_text_length:
            raise RequestError(
                400,
                f"{field}: number {index} has {len(text)} characters, and {limits.max_text_length} "
                "are taken; shorten it",
            )
