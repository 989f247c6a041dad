"""Silhouettes of the generated sample as PIL drawings on a unit square."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from dataset_scripts.sample.vocabulary import SHAPES

OVERSAMPLE = 4  # drawn this much larger and averaged down: PIL draws without anti-aliasing


def _polygon(draw: ImageDraw.ImageDraw, side: int, points: list[tuple[float, float]]) -> None:
    draw.polygon([(x * side, y * side) for x, y in points], fill=255)


def _circle(draw: ImageDraw.ImageDraw, side: int, x: float, y: float, radius: float, fill: int = 255) -> None:
    box = ((x - radius) * side, (y - radius) * side, (x + radius) * side, (y + radius) * side)
    draw.ellipse(box, fill=fill)


def _star() -> list[tuple[float, float]]:
    angles = -np.pi / 2 + np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2 == 0, 0.55, 0.33)  # fatter than a pentagram, to leave room for a texture
    return [(0.5 + r * np.cos(a), 0.54 + r * np.sin(a)) for r, a in zip(radii, angles, strict=True)]


def _heart() -> list[tuple[float, float]]:
    t = np.linspace(0, 2 * np.pi, 80)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return list(zip(0.5 + x / 32, 0.46 - y / 30, strict=True))


def _draw(name: str, draw: ImageDraw.ImageDraw, side: int) -> None:
    if name == "circle":
        _circle(draw, side, 0.5, 0.5, 0.5)
    elif name == "square":
        _polygon(draw, side, [(0.04, 0.04), (0.96, 0.04), (0.96, 0.96), (0.04, 0.96)])
    elif name == "triangle":
        _polygon(draw, side, [(0.5, 0.0), (1.0, 0.95), (0.0, 0.95)])
    elif name == "star":
        _polygon(draw, side, _star())
    elif name == "cross":
        _polygon(draw, side, [(0.25, 0), (0.75, 0), (0.75, 1), (0.25, 1)])
        _polygon(draw, side, [(0, 0.25), (1, 0.25), (1, 0.75), (0, 0.75)])
    elif name == "ring":
        _circle(draw, side, 0.5, 0.5, 0.5)  # its hole is drawn apart, see `hole`
    elif name == "heart":
        _polygon(draw, side, _heart())
    elif name == "crescent":
        _circle(draw, side, 0.5, 0.5, 0.5)
        _circle(draw, side, 0.98, 0.5, 0.37, fill=0)
    elif name == "arrow":
        _polygon(
            draw, side, [(1.0, 0.5), (0.46, 0.0), (0.46, 0.25), (0.0, 0.25), (0.0, 0.75), (0.46, 0.75), (0.46, 1.0)]
        )
    elif name == "hourglass":
        _polygon(draw, side, [(0, 0), (1, 0), (0.72, 0.5), (1, 1), (0, 1), (0.28, 0.5)])
    elif name == "dome":
        draw.pieslice((0, 0.1 * side, side, 1.1 * side), 180, 360, fill=255)
        _polygon(draw, side, [(0, 0.58), (1, 0.58), (1, 0.9), (0, 0.9)])
    elif name == "flower":
        for x, y in ((0.5, 0.26), (0.5, 0.74), (0.26, 0.5), (0.74, 0.5)):
            _circle(draw, side, x, y, 0.26)
    else:  # pragma: no cover
        raise AssertionError(f"no drawing for the shape {name!r}")


@lru_cache(maxsize=1024)
def silhouette(shape: int, side: int) -> np.ndarray:
    """(4·side, 4·side) booleans, oversampled: the whole object with its border and outline."""
    large = side * OVERSAMPLE
    canvas = Image.new("L", (large, large), 0)
    _draw(SHAPES[shape], ImageDraw.Draw(canvas), large - 1)
    return np.asarray(canvas) > 127


@lru_cache(maxsize=64)
def hole(shape: int, side: int) -> np.ndarray | None:
    """(4·side, 4·side) booleans: what is cut out of the middle (of the ring alone), without a border of its own."""
    if SHAPES[shape] != "ring":
        return None
    large = side * OVERSAMPLE
    canvas = Image.new("L", (large, large), 0)
    _circle(ImageDraw.Draw(canvas), large - 1, 0.5, 0.5, 0.16)
    return np.asarray(canvas) > 127
