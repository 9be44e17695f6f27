"""Where in a picture a phrase fits: likeness of text and windows, averaged per cell."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from regionclip.detect import Detector
from regionclip.proposals.grid import SlidingGrid
from regionclip.structures import PreparedImage

from .actions import Step
from .inputs import MAX_PHRASE, InputError, check_number, checked_text, typed_templates
from .pictures import Picture

WINDOW_SIDES = (0.15, 0.3)
"""In square roots of the picture's area: about 300 windows on a picture of any shape."""
WINDOW_STEP = 0.4
"""Between neighbours, in sides of the window."""
CELLS = 48
"""Along the longer side."""
WINDOWS_PER_STEP = 64


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Cosine between a phrase and the windows around each cell.

    Attributes:
        phrase: As it was compared.
        cells: In [-1, 1], evenly over the picture, row by row.
        num_windows: How many were looked at.
    """

    phrase: str
    cells: Float[Tensor, "h w"]
    num_windows: int


@torch.inference_mode()
def heat_map(
    detector: Detector,
    picture: Picture,
    phrase: str | None,
    *,
    templates: str | None = "photo",
    step: Step = lambda share, text: None,
) -> HeatMap:
    """Compare a phrase with every part of a picture.

    Args:
        detector: Embeds both.
        picture: Where to look.
        phrase: One name or a few words.
        templates: As :func:`~regionclip.demo.inputs.typed_templates` takes them.
        step: Told how far things are.

    Raises:
        InputError: There is no phrase, too long a one, or no such prompts.
    """
    phrase = " ".join(checked_text(phrase, "A phrase", most=MAX_PHRASE).split())
    if not phrase:
        raise InputError("no phrase to look for; type one, as in: a red umbrella")
    sentences = typed_templates(templates)
    check_number(1, len(sentences))
    words = F.normalize(detector.vocabulary([phrase], templates=sentences).embeddings[0], dim=0)
    image = detector.prepare(picture.path)
    boxes = windows_of(image)
    view = detector.parts.regions.view([image]).of(0)
    similarities = []
    for start in range(0, len(boxes), WINDOWS_PER_STEP):
        step(start / len(boxes), f"window {start} of {len(boxes)}")
        vectors = view.features(boxes[start : start + WINDOWS_PER_STEP]).cpu().float()
        similarities.append(F.normalize(vectors, dim=1) @ words)
    height, width = image.size_hw
    scale = CELLS / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    scaled = boxes * torch.tensor([columns / width, rows / height] * 2)
    cells = cell_means(scaled, torch.cat(similarities), (rows, columns))
    return HeatMap(phrase, cells, len(boxes))


def windows_of(image: PreparedImage) -> Float[Tensor, "R 4"]:
    """Squares that cover a picture, ``xyxy`` in its pixels; cut where it is narrower."""
    height, width = image.size_hw
    shorter_sides = math.sqrt(height * width) / min(height, width)
    grid = SlidingGrid(
        sizes=tuple(side * shorter_sides for side in WINDOW_SIDES),
        aspect_ratios=(1.0,),
        step=WINDOW_STEP,
    )
    return grid.propose([image])[0].boxes[1:]  # the first is the whole picture


def cell_means(
    boxes: Float[Tensor, "R 4"], values: Float[Tensor, " R"], size: tuple[int, int]
) -> Float[Tensor, "h w"]:
    """Mean value of the boxes around each cell, those nearer to their middle counting more.

    Args:
        boxes: ``xyxy`` in cells.
        values: One per box.
        size: Rows and columns; a cell in no box takes the mean of all values.
    """
    rows, columns = size
    over_columns = _nearness(boxes[:, 0], boxes[:, 2], columns)
    over_rows = _nearness(boxes[:, 1], boxes[:, 3], rows)
    total = over_rows.T @ (over_columns * values[:, None])
    weight = over_rows.T @ over_columns
    mean = values.mean() if len(values) else torch.tensor(0.0)
    return torch.where(weight > 1e-6, total / weight.clamp(min=1e-6), mean)


def _nearness(low: Tensor, high: Tensor, count: int) -> Float[Tensor, "R n"]:
    """One at the middle of ``low`` to ``high``, falling to nothing beyond its ends."""
    middle, half = (low + high) / 2, ((high - low) / 2).clamp(min=0.5)
    cells = torch.arange(count) + 0.5
    return (1 - ((cells[None] - middle[:, None]) / half[:, None]).abs()).clamp(min=0)
