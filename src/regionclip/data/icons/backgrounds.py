"""Textured backgrounds and weather: what makes finding icons a task."""

from functools import cache
from typing import Literal, get_args

import numpy as np
from PIL import Image

Domain = Literal["day", "night", "dusk_rain", "night_rain", "fog"]
DOMAINS: tuple[Domain, ...] = get_args(Domain)

COLORS = {
    "red": (205, 40, 40),
    "orange": (240, 135, 25),
    "yellow": (240, 215, 45),
    "green": (45, 150, 60),
    "blue": (45, 90, 205),
    "purple": (130, 55, 165),
    "pink": (240, 125, 175),
    "brown": (120, 75, 40),
    "black": (22, 22, 26),
    "white": (242, 242, 240),
}
"""Colour names of captions to RGB, 0 to 255."""

_BANK_SIDE = 512
_MIN_CONTRAST = 105.0


@cache
def _texture_bank() -> tuple[np.ndarray, ...]:
    """Grey textures ``(512, 512)`` in [0, 1]: cloudy noise, stripes, checks, ramps."""
    rng = np.random.default_rng(20261121)
    bank = []
    for kind in range(24):
        grain = rng.random((_BANK_SIDE, _BANK_SIDE)).astype(np.float32)
        clouds = sum(_smooth_noise(rng, 4 << octave) / (1 << octave) for octave in range(5))
        texture = clouds + 0.25 * grain
        if kind % 3:
            texture = 0.5 * texture + _pattern(rng, kind)
        texture -= texture.min()
        bank.append(texture / texture.max())
    return tuple(bank)


def _smooth_noise(rng: np.random.Generator, cells: int) -> np.ndarray:
    coarse = Image.fromarray(rng.random((cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((_BANK_SIDE, _BANK_SIDE), Image.Resampling.BICUBIC))


def _pattern(rng: np.random.Generator, kind: int) -> np.ndarray:
    rows, columns = np.mgrid[:_BANK_SIDE, :_BANK_SIDE].astype(np.float32)
    angle, period = rng.uniform(0, np.pi), rng.uniform(12, 60)
    along = np.sin((np.cos(angle) * columns + np.sin(angle) * rows) * 2 * np.pi / period)
    across = np.sin((np.cos(angle) * rows - np.sin(angle) * columns) * 2 * np.pi / period)
    stripes, checks = along > 0.3, (along > 0) ^ (across > 0)
    return (stripes if kind % 2 else checks).astype(np.float32) * rng.uniform(0.3, 0.9)


@cache
def _rain_bank() -> tuple[np.ndarray, ...]:
    """Rain streaks ``(512, 512)`` in [0, 1]."""
    rng = np.random.default_rng(20261122)
    bank = []
    for _ in range(4):
        rain = np.zeros((_BANK_SIDE, _BANK_SIDE), np.float32)
        for _ in range(900):
            x, y = rng.integers(0, _BANK_SIDE, 2)
            steps = np.arange(rng.integers(8, 22))
            rain[(y + steps) % _BANK_SIDE, (x + steps // 4) % _BANK_SIDE] = rng.uniform(0.4, 1)
        bank.append(rain)
    return tuple(bank)


def _window(rng: np.random.Generator, bank: tuple[np.ndarray, ...], size: int) -> np.ndarray:
    texture = bank[rng.integers(len(bank))]
    top, left = rng.integers(0, _BANK_SIDE - size + 1, 2)
    return texture[top : top + size, left : left + size]


def draw_background(rng: np.random.Generator, size: int) -> np.ndarray:
    """A textured ground between two related colours, ``(size, size, 3)`` uint8."""
    if size > _BANK_SIDE:
        raise ValueError(f"scenes are at most {_BANK_SIDE} pixels a side, got {size}")
    texture = _window(rng, _texture_bank(), size)
    first = rng.uniform(20, 235, 3)
    second = np.clip(first + rng.uniform(-70, 70, 3), 0, 255)
    first, step = first.astype(np.float32), (second - first).astype(np.float32)
    return (first + step * texture[..., None]).astype(np.uint8)


def pick_color(
    rng: np.random.Generator, background: np.ndarray
) -> tuple[str, tuple[int, int, int]]:
    """A colour that stands out from the background: its name and a shade of it."""
    ground = background[::8, ::8].reshape(-1, 3).mean(axis=0)
    names = list(COLORS)
    distances = np.array([np.linalg.norm(np.array(COLORS[name]) - ground) for name in names])
    visible = np.flatnonzero(distances >= min(_MIN_CONTRAST, distances.max()))
    name = names[visible[rng.integers(len(visible))]]
    red, green, blue = np.clip(np.array(COLORS[name]) + rng.integers(-14, 15, 3), 0, 255).tolist()
    return name, (red, green, blue)


def apply_weather(rng: np.random.Generator, pixels: np.ndarray, domain: Domain) -> np.ndarray:
    """Light and weather over a finished scene.

    Args:
        rng: Source of all chance.
        pixels: ``(H, W, 3)`` uint8, square.
        domain: ``day`` leaves the pixels as they are.
    """
    if domain == "day":
        return pixels
    light = pixels.astype(np.float32)
    if domain == "fog":
        density = rng.uniform(0.35, 0.6)
        veil = density * (0.6 + 0.4 * _window(rng, _texture_bank(), len(pixels)))[..., None]
        return (light * (1 - veil) + 205 * veil).astype(np.uint8)
    if domain == "dusk_rain":
        light *= np.array([0.8, 0.62, 0.55], np.float32) * rng.uniform(0.85, 1.1)
    else:
        light *= np.array([0.48, 0.5, 0.62], np.float32) * rng.uniform(0.8, 1.15)
    light += rng.normal(0, 5, pixels.shape[:2]).astype(np.float32)[..., None]
    if domain in ("dusk_rain", "night_rain"):
        light += 90 * _window(rng, _rain_bank(), len(pixels))[..., None]
    return np.clip(light, 0, 255).astype(np.uint8)
