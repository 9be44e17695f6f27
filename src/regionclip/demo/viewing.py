"""What the browser is given: plain data for ``browser/demo.js``, and small pieces of HTML.

Whatever came from a visitor is escaped here, or set as text there.
"""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from typing import Any, Literal

from PIL import Image

from regionclip.structures import Detections
from regionclip.visualize import Color, class_color, text_color

from .actions import Place, only_names_found
from .heat_map import HeatMap
from .pictures import PREVIEW_SIDE, Picture, jpeg, read_small, scaled
from .sessions import Look

CROP_SIDE = 160
CROP_MARGIN = 0.1
"""Shown around a region, in its own sides."""
RESULT_SIDE = 320
Level = Literal["info", "warning", "error"]


def picture_view(
    look: Look,
    *,
    found: Detections | None = None,
    drawn: Sequence[float | int] | None = None,
    heat: HeatMap | None = None,
    is_drawable: bool = False,
) -> dict[str, Any]:
    """A picture and what lies over it.

    Args:
        look: The picture, and its place, which comes back with what is drawn.
        found: Boxes with names.
        drawn: A box drawn before, ``xyxy`` in pixels of the picture.
        heat: Colours over it.
        is_drawable: A box can be drawn.
    """
    picture = look.picture
    height, width = picture.size_hw
    return {
        "image": data_uri(picture.preview.read_bytes()),
        "name": picture.name,
        "place": look.place,
        "width": width,
        "height": height,
        "boxes": [] if found is None else _boxes(found),
        "drawn": None if drawn is None else list(drawn),
        "is_drawable": is_drawable,
        "heat": None if heat is None else _heat(heat),
    }


def _boxes(found: Detections) -> list[dict[str, Any]]:
    return [
        {
            "box": [round(each, 2) for each in row["box"]],
            "name": row["name"],
            "score": row["score"],
            "color": _css(class_color(row["label"])),
            "ink": _css(text_color(class_color(row["label"]))),
        }
        for row in only_names_found(found).to_dict()
    ]


def _css(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def _heat(heat: HeatMap) -> dict[str, Any]:
    rows, columns = heat.cells.shape
    return {
        "rows": rows,
        "columns": columns,
        "cells": [round(each, 4) for each in heat.cells.flatten().tolist()],
        "low": float(heat.cells.min()),
        "high": float(heat.cells.max()),
    }


def strip_view(look: Look) -> dict[str, Any]:
    """Thumbnails to choose from."""
    return {
        "pictures": [
            {"name": each.name, "image": data_uri(each.thumbnail.read_bytes())}
            for each in look.pictures
        ],
        "current": look.place,
    }


def notice(text: str, level: Level = "info") -> str:
    """One sentence to the visitor; nothing for no text."""
    if not text:
        return ""
    role = "alert" if level == "error" else "status"
    return f'<div class="rc-notice rc-{level}" role="{role}">{escape(text)}</div>'


def counted(number: int, one: str, many: str) -> str:
    """The number with its noun."""
    return f"{number} {one if number == 1 else many}"


def bars(scores: Sequence[tuple[str, float]]) -> str:
    """Names with a bar each, as long as its score in [0, 1]."""
    rows = "".join(
        f'<span>{escape(name)}</span><i style="width:{100 * score:.1f}%"></i><b>{score:.3f}</b>'
        for name, score in scores
    )
    return f'<div class="rc-bars">{rows}</div>'


def crops(pictures: Sequence[Picture], places: Sequence[Place]) -> str:
    """Regions cut out, each with its similarity and where it comes from.

    They are cut from previews, each read once: models see no more of a picture than these show.
    """
    previews = {
        number: read_small(pictures[number], PREVIEW_SIDE)
        for number in {each.picture for each in places}
    }
    figures = "".join(
        '<figure><img class="rc-crop" alt="" '
        f'src="{_crop(previews[place.picture], pictures[place.picture], place)}">'
        f"{place.similarity:.3f} &middot; {escape(pictures[place.picture].name)}</figure>"
        for place in places
    )
    return f'<div class="rc-grid">{figures}</div>'


def _crop(preview: Image.Image, picture: Picture, place: Place) -> str:
    scale = preview.width / picture.size_hw[1]
    x0, y0, x1, y1 = (each * scale for each in place.box)
    dx, dy = CROP_MARGIN * (x1 - x0), CROP_MARGIN * (y1 - y0)
    left, top = max(0, int(x0 - dx)), max(0, int(y0 - dy))
    right, bottom = min(preview.width, round(x1 + dx)), min(preview.height, round(y1 + dy))
    box = (left, top, max(right, left + 1), max(bottom, top + 1))
    return data_uri(jpeg(scaled(preview.crop(box), CROP_SIDE)))


def pictures_with_places(
    pictures: Sequence[Picture], places: Sequence[Place], *, best_of: Sequence[Place]
) -> str:
    """Every picture with the places in it, those with the best first.

    Args:
        pictures: All that were looked through.
        places: What is marked.
        best_of: Places of all pictures, best first: what a picture without marks came nearest to.
    """
    best = {place.picture: place.similarity for place in reversed(best_of)}
    order = sorted(best, key=lambda number: -best[number])
    figures = "".join(
        _with_places(
            pictures[number], [each for each in places if each.picture == number], best[number]
        )
        for number in order
    )
    return f'<div class="rc-grid rc-wide">{figures}</div>'


def _with_places(picture: Picture, places: Sequence[Place], best: float) -> str:
    height, width = picture.size_hw
    image = data_uri(jpeg(read_small(picture, RESULT_SIDE)))
    shapes = "".join(
        f'<rect x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}" '
        f'vector-effect="non-scaling-stroke"><title>{place.similarity:.3f}</title></rect>'
        for place in places
        for x0, y0, x1, y1 in [place.box]
    )
    said = f"{len(places)} found, best {best:.3f}" if places else f"none, best {best:.3f}"
    return (
        f'<figure class="{"" if places else "rc-without"}"><svg viewBox="0 0 {width} {height}">'
        f'<image href="{image}" width="{width}" height="{height}" preserveAspectRatio="none"/>'
        f"{shapes}</svg>{escape(picture.name)}: {said}</figure>"
    )


def data_uri(content: bytes) -> str:
    """The bytes of a JPEG file as an address that asks no server."""
    return f"data:image/jpeg;base64,{b64encode(content).decode()}"
