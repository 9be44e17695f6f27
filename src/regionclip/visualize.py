"""Pictures of detections, and sheets of such pictures."""

import colorsys
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from regionclip.structures import Detections, import_supervision

Color = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]
"""``xyxy``, pixels of the drawn picture."""

MIN_DISPLAY_SIDE = 384
"""Pixels of a picture's longer side below which it is enlarged before drawing."""
PIXELS_PER_LINE = 300
"""Pixels of the longer side per pixel of line width."""
PIXELS_PER_FONT = 55
"""Pixels of the longer side per pixel of font size."""
FONT_SIZES = 11, 28
"""Smallest and largest font, in pixels."""
COVERED_LABEL = 10.0
"""Cost of covering a label, in boxes covered: labels overlap only where there is no other place."""


def draw_detections(
    image: Image.Image,
    detections: Detections,
    *,
    show_scores: bool = True,
    min_display_side: int = MIN_DISPLAY_SIDE,
    font: str | Path | None = None,
) -> Image.Image:
    """Draw masks, boxes and names on a copy of ``image``.

    Each class has a colour of its own, the same in every picture. Lines and text grow with the
    picture; a picture too small to write on is enlarged by a whole factor first. Names stand at
    their box where they hide no other name and as little as possible of other boxes.

    Args:
        image: The picture that ``detections`` are of.
        detections: Boxes (and masks) in pixels of ``image``; the best are drawn on top.
        show_scores: Write the score after the name.
        min_display_side: Enlarge a picture whose longer side has fewer pixels; 0 never does.
        font: TrueType or OpenType file for the names. By default matplotlib's DejaVu Sans: Latin,
            Greek, Cyrillic and symbols, but no Chinese, Japanese or Korean, whose characters it
            draws as empty boxes.

    Raises:
        ValueError: The masks have another size than ``image``, or ``font`` cannot be read.
    """
    _check_masks(image, detections)
    factor = max(1, math.ceil(min_display_side / max(image.size)))
    size = (image.width * factor, image.height * factor)
    # A palette or a bilevel picture cannot be interpolated, so RGB comes first.
    canvas = image.convert("RGB")
    canvas = canvas if factor == 1 else canvas.resize(size, Image.Resampling.BICUBIC)
    if len(detections) == 0:
        return canvas
    shown = _in_display_pixels(detections, factor, size)
    canvas = _draw_boxes_and_masks(canvas, shown)
    _draw_labels(canvas, shown, _load_font(font, max(size)), show_scores=show_scores)
    return canvas


def contact_sheet(
    images: Sequence[Image.Image],
    *,
    columns: int | None = None,
    max_cell_size: tuple[int, int] = (640, 480),
    gap: int = 8,
) -> Image.Image:
    """Lay pictures out on a white grid, in reading order.

    Columns are as wide as the widest picture, a row is as high as its highest; smaller pictures
    stand in the middle of their cell, as large as they are.

    Args:
        images: At least one, of any sizes.
        columns: Pictures per row; by default the grid is about square.
        max_cell_size: Width and height in pixels; larger pictures are scaled down to fit.
        gap: Pixels between and around the cells.

    Raises:
        ValueError: There are no images, or ``columns`` is not positive.
    """
    if not images:
        raise ValueError("a contact sheet needs at least one image, got none")
    if columns is not None and columns < 1:
        raise ValueError(f"columns must be at least 1, got {columns}")
    cells = [_scaled_down(image.convert("RGB"), max_cell_size) for image in images]
    columns = min(columns or math.ceil(math.sqrt(len(cells))), len(cells))
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    width = max(cell.width for cell in cells)
    heights = [max(cell.height for cell in row) for row in rows]
    sheet_size = (gap + columns * (width + gap), gap + sum(height + gap for height in heights))
    sheet = Image.new("RGB", sheet_size, "white")
    top = gap
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            left = gap + column * (width + gap)
            middle = (left + (width - cell.width) // 2, top + (height - cell.height) // 2)
            sheet.paste(cell, middle)
        top += height + gap
    return sheet


def regionclip_drawing_rule(
    detections: Detections,
    *,
    max_boxes: int = 25,
    min_area: float = 8100.0,
    min_score: float = 0.05,
) -> Detections:
    """Thin detections out as RegionCLIP's own demonstration pictures do.

    The steps count in this order: the first ``max_boxes`` rows; of these the ones that are large
    enough; of these the first row of each box, which is its best class as long as boxes are not
    refined per class; of these the ones that score enough.

    Args:
        detections: Best first.
        max_boxes: Rows looked at.
        min_area: Square pixels; a box with fewer goes.
        min_score: A row must score higher.

    Source:
        microsoft/RegionCLIP@4b8513b ``tools/visualize_json_results.py`` with the arguments of
        ``visualize_zeroshot_inference.sh``.
    """
    first = detections.select(range(min(max_boxes, len(detections))))
    sides = first.boxes[:, 2:] - first.boxes[:, :2]
    unique = first.select(sides.prod(dim=1) >= min_area).unique_boxes()
    return unique.select(unique.scores > min_score)


def class_color(label: int) -> Color:
    """RGB of a class: hues a golden angle apart, so that neighbours in a list look different."""
    hue = (label * 0.618034 + 0.97) % 1
    lightness = (0.5, 0.62, 0.42)[label % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


def _check_masks(image: Image.Image, detections: Detections) -> None:
    if detections.masks is None:
        return
    height, width = detections.masks.shape[1:]
    if (width, height) != image.size:
        raise ValueError(
            f"the masks are {width}x{height} pixels and the image {image.width}x{image.height}; "
            "draw on the image that was detected in"
        )


def _in_display_pixels(detections: Detections, factor: int, size: tuple[int, int]) -> Detections:
    """Enlarged by ``factor``, with every box edge on a pixel of the picture."""
    width, height = size
    last_pixel = torch.tensor([width - 1, height - 1, width - 1, height - 1])
    boxes = (detections.boxes.cpu() * factor).clamp(min=0).minimum(last_pixel)
    masks = detections.masks
    if masks is not None and factor > 1:
        masks = masks.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
    return replace(detections, boxes=boxes, masks=masks)


def _draw_boxes_and_masks(canvas: Image.Image, detections: Detections) -> Image.Image:
    supervision = import_supervision()
    detections = _reversed(detections)
    rows = detections.to_supervision()
    palette = supervision.ColorPalette(
        [supervision.Color(*class_color(label)) for label in detections.labels.tolist()]
    )
    by_row = {"color": palette, "color_lookup": supervision.ColorLookup.INDEX}
    thickness = max(1, round(max(canvas.size) / PIXELS_PER_LINE))
    canvas = supervision.MaskAnnotator(opacity=0.4, **by_row).annotate(canvas, rows)
    return supervision.BoxAnnotator(thickness=thickness, **by_row).annotate(canvas, rows)


def _reversed(detections: Detections) -> Detections:
    """Worst first, so that the best are drawn on top."""
    return detections.select(torch.arange(len(detections)).flip(0).to(detections.scores.device))


def _load_font(font: str | Path | None, longer_side: int) -> ImageFont.FreeTypeFont:
    smallest, largest = FONT_SIZES
    size = min(max(round(longer_side / PIXELS_PER_FONT), smallest), largest)
    if font is None:
        font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    try:
        return ImageFont.truetype(str(font), size)
    except OSError as error:
        raise ValueError(
            f"cannot read the font {font}: {error}; give a TrueType or OpenType file"
        ) from error


def _draw_labels(
    canvas: Image.Image,
    detections: Detections,
    font: ImageFont.FreeTypeFont,
    *,
    show_scores: bool,
) -> None:
    """Write names (and scores) on filled rectangles; supervision's spreading loses their boxes."""
    scores = [f" {score:.2f}" if show_scores else "" for score in detections.scores.tolist()]
    names = [" ".join(name.split()) for name in detections.names]
    padding = max(2, round(font.size / 6))
    room = canvas.width - 2 * padding
    texts = [_fitted(name, end, font, room) for name, end in zip(names, scores, strict=True)]
    ascent, descent = font.getmetrics()
    height = ascent + descent + padding
    widths = [math.ceil(font.getlength(text)) + 2 * padding for text in texts]
    places = _place_labels(detections.boxes, widths, height, canvas.size)
    draw = ImageDraw.Draw(canvas)
    labels = detections.labels.tolist()
    for place, text, label in reversed(list(zip(places, texts, labels, strict=True))):
        x0, y0, x1, y1 = place
        color = class_color(label)
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=color)
        draw.text((x0 + padding, y0 + padding / 2), text, font=font, fill=text_color(color))


def _fitted(name: str, end: str, font: ImageFont.FreeTypeFont, room: int) -> str:
    """``name`` and ``end``, the name cut where the two are wider than ``room`` pixels."""
    text = name + end
    while name and font.getlength(text) > room:
        name = name[:-1]
        text = f"{name}…{end}"
    return text


def text_color(background: Color) -> Color:
    """Black on light colours, white on dark ones.

    Source:
        ITU-R BT.601 luma weights.
    """
    red, green, blue = background
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


def _place_labels(
    boxes: Tensor, widths: Sequence[int], height: int, size: tuple[int, int]
) -> list[Rectangle]:
    """Where each label goes: of the places around its box, the one that hides least.

    Best rows choose first. Hiding means covering another label, or covering a share of a box.
    """
    all_boxes = boxes.cpu().double().numpy()
    placed = np.zeros((0, 4))
    for box, width in zip(all_boxes, widths, strict=True):
        places = _places_around(box, width, height, size)
        hidden_boxes = _covered_share(places, all_boxes).sum(axis=1)
        hidden_labels = _covered_share(places, placed).sum(axis=1)
        preference = 0.01 * np.arange(len(places))
        best = int(np.argmin(hidden_boxes + COVERED_LABEL * hidden_labels + preference))
        placed = np.concatenate([placed, places[best : best + 1]])
    return [(x0, y0, x1, y1) for x0, y0, x1, y1 in placed.tolist()]


def _places_around(box: np.ndarray, width: int, height: int, size: tuple[int, int]) -> np.ndarray:
    """Label rectangles ``(places, 4)`` at a box, the usual one first, all inside the picture."""
    x0, y0, x1, y1 = box.round()
    corners = [
        (x0, y0 - height),  # above
        (x0, y1 + 1),  # below
        (x1 - width, y0 - height),
        (x1 - width, y1 + 1),
        (x1 + 1, y0),  # right
        (x0 - width, y0),  # left
        (x0, y0),  # inside
        (x0, y1 - height),
        (x1 - width, y0),
        (x1 - width, y1 - height),
        (x1 + 1, y1 - height),
        (x0 - width, y1 - height),
    ]
    room = np.array([max(0, size[0] - width), max(0, size[1] - height)])
    inside = np.array(corners).clip(0, room)
    return np.concatenate([inside, inside + np.array([width, height])], axis=1)


def _covered_share(places: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Share of each of ``others`` that each place covers, ``(places, others)``, in [0, 1]."""
    low = np.maximum(places[:, None, :2], others[None, :, :2])
    high = np.minimum(places[:, None, 2:], others[None, :, 2:])
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    return (high - low).clip(0).prod(axis=2) / areas.clip(1)


def _scaled_down(image: Image.Image, max_size: tuple[int, int]) -> Image.Image:
    if image.width <= max_size[0] and image.height <= max_size[1]:
        return image
    return ImageOps.contain(image, max_size, Image.Resampling.LANCZOS)
