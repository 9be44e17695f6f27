"""Scenes and close-ups drawn from a seed, with what is in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int16, Int64, UInt8
from PIL import Image

from .backgrounds import Domain, apply_weather, draw_background, pick_color
from .captions import close_up_caption, scene_caption
from .glyphs import CLASS_NAMES, rotated_mask

SCENE_SIZE = 160
"""Pixels a side of a scene."""
MAX_DEGREES = 30.0
_MAX_OVERLAP = 0.3
"""Of the smaller frame of two icons; beyond it line drawings cannot be told apart."""
_INK = 100
"""A pixel belongs to an icon where its mask (0 to 255) reaches this."""

Split = Literal["train", "test"]
_SPLIT_KEYS: dict[str, int] = {"test": 0, "train": 1}


@dataclass(frozen=True, slots=True)
class Scene:
    """One drawn image and everything that is known about it.

    Attributes:
        pixels: RGB, 0 to 255.
        boxes: ``xyxy`` in pixels, tight around the visible part of each icon.
        labels: Index into ``CLASS_NAMES``.
        colors: The colour name of each icon.
        caption: One sentence about the image.
        owner: Row of the icon that shows at each pixel, -1 where none does.
    """

    pixels: UInt8[np.ndarray, "H W 3"]
    boxes: Float32[np.ndarray, "N 4"]
    labels: Int64[np.ndarray, " N"]
    colors: tuple[str, ...]
    caption: str
    owner: Int16[np.ndarray, "H W"]


class _Canvas:
    """Pixels being painted and which icon shows at each of them."""

    def __init__(self, background: np.ndarray) -> None:
        self.background = background
        self.image = Image.fromarray(background)
        self.owner = np.full(background.shape[:2], -1, np.int16)
        self.areas: list[int] = []
        self.visible_areas: list[int] = []
        self.frames: list[tuple[int, int, int, int]] = []

    def paint(
        self,
        mask: Image.Image,
        left: int,
        top: int,
        color: tuple[int, int, int],
        *,
        min_visible: float,
    ) -> bool:
        """Paint unless less than ``min_visible`` of it or of an icon below would show."""
        size = len(self.owner)
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + mask.width, size), min(top + mask.height, size)
        if x1 <= x0 or y1 <= y0:
            return False
        if any(_overlap((x0, y0, x1, y1), frame) > _MAX_OVERLAP for frame in self.frames):
            return False
        ink = np.asarray(mask) >= _INK
        shown = ink[y0 - top : y1 - top, x0 - left : x1 - left]
        if shown.sum() < min_visible * ink.sum():
            return False
        window = self.owner[y0:y1, x0:x1]
        hidden = np.bincount(window[shown] + 1, minlength=len(self.areas) + 1)[1:]
        remaining = np.array(self.visible_areas, int) - hidden
        if np.any(remaining < min_visible * np.array(self.areas, float)):
            return False
        window[shown] = len(self.areas)
        self.areas.append(int(ink.sum()))
        self.visible_areas = [*remaining.tolist(), int(shown.sum())]
        self.frames.append((x0, y0, x1, y1))
        self.image.paste(color, (left, top), mask)
        return True

    def visible_boxes(self) -> np.ndarray:
        """``xyxy`` around the pixels where each icon shows, one row per icon."""
        boxes = np.zeros((len(self.areas), 4), np.float32)
        for icon in range(len(self.areas)):
            shown = self.owner == icon
            rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
            boxes[icon] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        return boxes


def draw_scene(
    seed: int,
    index: int,
    *,
    size: int = SCENE_SIZE,
    domain: Domain = "day",
    class_names: Sequence[str] = CLASS_NAMES,
    split: Split = "test",
) -> Scene:
    """Draw a scene of two to five icons, which may overlap a little.

    Args:
        seed: Together with ``index`` and ``split`` fixes every pixel.
        index: Which scene of the seed.
        size: Pixels a side, at most 512; icons take 22% to 45% of it.
        domain: Light and weather.
        class_names: Draw icons of these classes only; labels still index ``CLASS_NAMES``.
        split: Training and test scenes never share a random stream, whatever their seeds.
    """
    rng = _stream(split, "scene", seed, index)
    canvas = _Canvas(draw_background(rng, size))
    labels, colors = [], []
    wanted = int(rng.integers(2, 6))
    for _ in range(6 * wanted):
        if len(labels) == wanted:
            break
        # a second icon of the same class now and then, so that captions can count
        again = bool(labels) and rng.random() < 0.2
        name = (
            CLASS_NAMES[labels[-1]] if again else class_names[int(rng.integers(len(class_names)))]
        )
        longest = int(size * rng.uniform(0.22, 0.45))
        mask = rotated_mask(name, longest=longest, degrees=_angle(rng))
        left, top = (
            int(rng.integers(-side // 12, max(size - side + side // 12, 1)))
            for side in (mask.width, mask.height)
        )
        color_name, color = pick_color(rng, canvas.background)
        if canvas.paint(mask, left, top, color, min_visible=0.75):
            labels.append(CLASS_NAMES.index(name))
            colors.append(color_name)
    boxes = canvas.visible_boxes()
    names = [CLASS_NAMES[label] for label in labels]
    return Scene(
        pixels=apply_weather(rng, np.asarray(canvas.image), domain),
        boxes=boxes,
        labels=np.array(labels, np.int64),
        colors=tuple(colors),
        caption=scene_caption(rng, names, colors, boxes, size),
        owner=canvas.owner,
    )


def draw_close_up(
    seed: int, index: int, *, size: int, domain: Domain = "day", split: Split = "test"
) -> Scene:
    """Draw one icon that fills most of the image, in front of parts of others at the border.

    Args:
        seed: Together with ``index`` and ``split`` fixes every pixel.
        index: Which close-up of the seed.
        size: Pixels a side, at most 512.
        domain: Light and weather.
        split: See :func:`draw_scene`.

    Returns:
        A scene whose one box, label and caption are those of the icon in front.
    """
    rng = _stream(split, "close-up", seed, index)
    canvas = _Canvas(draw_background(rng, size))
    for _ in range(int(rng.integers(0, 3))):
        longest = int(size * rng.uniform(0.3, 0.9))
        clutter = rotated_mask(_any_name(rng), longest=longest, degrees=_angle(rng))
        angle = rng.uniform(0, 2 * np.pi)
        # centres on a circle outside the middle: the clutter comes in from the border
        x, y = size * (0.5 + 0.62 * np.array([np.cos(angle), np.sin(angle)]))
        corner = (int(x - clutter.width / 2), int(y - clutter.height / 2))
        canvas.image.paste(pick_color(rng, canvas.background)[1], corner, clutter)
    name = _any_name(rng)
    mask = rotated_mask(name, longest=int(size * rng.uniform(0.6, 1.0)), degrees=_angle(rng))
    if max(mask.size) > size:
        mask.thumbnail((size, size), Image.Resampling.BILINEAR)
    left, top = (int(rng.integers(0, size - side + 1)) for side in mask.size)
    color_name, color = pick_color(rng, canvas.background)
    canvas.paint(mask, left, top, color, min_visible=0.0)
    return Scene(
        pixels=apply_weather(rng, np.asarray(canvas.image), domain),
        boxes=canvas.visible_boxes(),
        labels=np.array([CLASS_NAMES.index(name)], np.int64),
        colors=(color_name,),
        caption=close_up_caption(rng, name, color_name),
        owner=canvas.owner,
    )


def _overlap(frame: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """Shared area of two ``xyxy`` frames as a fraction of the smaller."""
    width = min(frame[2], other[2]) - max(frame[0], other[0])
    height = min(frame[3], other[3]) - max(frame[1], other[1])
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (frame, other)]
    return max(width, 0) * max(height, 0) / min(areas)


def _stream(split: Split, kind: str, seed: int, index: int) -> np.random.Generator:
    return np.random.default_rng((_SPLIT_KEYS[split], len(kind), seed, index))


def _angle(rng: np.random.Generator) -> float:
    return float(rng.uniform(-MAX_DEGREES, MAX_DEGREES))


def _any_name(rng: np.random.Generator) -> str:
    return CLASS_NAMES[rng.integers(len(CLASS_NAMES))]
