"""One texture per material: where, on a square of the image, ink darkens or lightens the body colour.

Lengths are in 64ths of the image side, because the small models of the quickstart see the image at 64 pixels; a period
of about 6 survives that, and so does every texture's own direction.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from dataset_scripts.sample.vocabulary import MATERIALS

PHASES = 4  # how many shifted versions of a texture exist


def _cells(x: np.ndarray, period: float) -> np.ndarray:
    return np.floor(x / period).astype(int)


def _ink(name: str, x: np.ndarray, y: np.ndarray, centre: float, seed: int) -> np.ndarray:
    """Coverage in [0, 1] at the points (x, y), in 64ths of the image side; ``centre`` is the object's middle."""
    if name == "plastic":
        return np.zeros_like(x)
    if name == "striped":  # level bars
        return (y % 6.0 < 2.6).astype(float)
    if name == "dotted":
        row = _cells(y, 5.6)
        dx = (x + 2.8 * (row % 2)) % 5.6 - 2.8
        dy = y % 5.6 - 2.8
        return (dx**2 + dy**2 < 1.65**2).astype(float)
    if name == "checkered":
        return ((_cells(x, 4.6) + _cells(y, 4.6)) % 2 == 0).astype(float)
    if name == "wooden":  # upright wavy grain
        return ((x + 1.5 * np.sin(y / 2.6)) % 4.6 < 1.7).astype(float)
    if name == "metal":  # one broad, soft sheen from corner to corner
        return np.exp(-(((x + y) / 2 - centre) ** 2) / (2 * 2.6**2)) * 1.1
    if name == "rattan":  # diagonal lattice
        return np.maximum((x + y) % 7.0 < 2.2, (x - y) % 7.0 < 2.2).astype(float)
    if name == "stone":  # irregular blots
        rng = np.random.default_rng(seed)
        ink = np.zeros_like(x)
        for px, py, radius in zip(*rng.uniform(0, 34, (2, 56)), rng.uniform(0.8, 2.3, 56), strict=True):
            ink[(x - px) ** 2 + (y - py) ** 2 < radius**2] = 1.0
        return ink
    if name == "brick":  # level joints, and upright ones shifted from course to course
        course = _cells(y, 5.4)
        return np.maximum(y % 5.4 < 1.4, (x + 4.0 * (course % 2)) % 8.0 < 1.4).astype(float)
    if name == "zigzag":
        return ((y + np.abs(x % 8.0 - 4.0) * 1.15) % 7.4 < 2.8).astype(float)
    if name == "glass":  # two slanted reflections
        slant = x + y - 2 * centre
        return np.maximum(np.abs(slant + 3.4) < 2.0, np.abs(slant - 3.2) < 0.9).astype(float)
    if name == "tiled":  # a square grid of joints
        return np.maximum(x % 6.4 < 1.6, y % 6.4 < 1.6).astype(float)
    if name == "paper":  # folded: one half lies in shade
        return (y - x > 0).astype(float) * 0.8
    if name == "ceramic":  # thrown on a wheel: rings around the middle
        return (np.hypot(x - centre, y - centre) % 5.2 < 2.2).astype(float)
    raise AssertionError(f"no texture for the material {name!r}")  # pragma: no cover


@lru_cache(maxsize=2048)
def texture(material: int, side: int, image_size: int, phase: int) -> np.ndarray:
    """(side, side) ink coverage in [0, 1] for an object ``side`` pixels wide in an image ``image_size`` wide."""
    fine = 4
    grid = (np.arange(side * fine) + 0.5) / fine * (64 / image_size)
    name = MATERIALS[material]
    # Textures that are laid out around the object's middle must not be shifted.
    shift = 0.0 if name in ("metal", "glass", "paper", "ceramic", "stone") else phase * 1.7
    x, y = np.meshgrid(grid + shift, grid + shift * 0.6)
    ink = _ink(name, x, y, centre=side / 2 * 64 / image_size, seed=phase)
    return np.clip(ink, 0, 1).reshape(side, fine, side, fine).mean((1, 3)).astype(np.float32)
