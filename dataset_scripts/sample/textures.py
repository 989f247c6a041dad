"""One texture per material: an ink of its own, and where on a square of the image it covers the body color.

Lengths are in 64ths of the image side, because the small models of the quickstart see the image at 64 pixels. Every
texture repeats in tiles of 8 that are laid over the whole image and not over the object: a small model with patches of
8 pixels then meets one texture as one pattern, wherever the object lies, and learns it in minutes.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from dataset_scripts.sample.vocabulary import MATERIALS

TILE = 8.0

# RGB. Plastic is plain.
INKS = {
    "plastic": (0, 0, 0),
    "striped": (16, 16, 16),
    "dotted": (255, 112, 200),
    "checkered": (212, 168, 24),
    "wooden": (134, 80, 36),
    "metal": (196, 204, 214),
    "rattan": (226, 186, 128),
    "stone": (84, 92, 108),
    "brick": (255, 255, 255),
    "zigzag": (0, 92, 92),
    "glass": (176, 232, 255),
    "tiled": (96, 104, 32),
    "paper": (236, 230, 210),
    "ceramic": (170, 60, 40),
}

# Center and radius of the blots of a tile of stone.
BLOTS = ((1.3, 1.4, 1.2), (5.4, 2.6, 1.7), (2.7, 5.9, 1.5), (6.7, 6.6, 0.9))


def _ink(name: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Coverage in [0, 1] at the points (u, v) of a tile, u to the right and v down."""
    if name == "plastic":
        return np.zeros_like(u)
    if name == "striped":  # level bars
        return v < 3.4
    if name == "dotted":
        return np.hypot(u - 4, v - 4) < 2.5
    if name == "checkered":
        return (u < 4) == (v < 4)
    if name == "wooden":  # upright wavy grain
        return (u + 0.8 * np.sin(2 * np.pi * v / TILE)) % 4 < 1.6
    if name == "metal":  # soft sheen
        return 0.5 + 0.5 * np.cos(2 * np.pi * (u - v) / TILE)
    if name == "rattan":  # diagonal lattice
        return ((u + v) % TILE < 1.9) | ((u - v) % TILE < 1.9)
    if name == "stone":  # irregular blots
        return np.any([np.hypot(u - x, v - y) < radius for x, y, radius in BLOTS], axis=0)
    if name == "brick":  # level joints, and upright ones shifted from course to course
        return (v % 4 < 1.2) | ((u + 4 * (v < 4)) % TILE < 1.2)
    if name == "zigzag":
        return (v + np.abs(u - 4)) % TILE < 2.8
    if name == "glass":  # two slanted reflections, a broad and a thin one
        slant = (u + v) % TILE
        return (np.abs(slant - 2) < 1.2) | (np.abs(slant - 5) < 0.6)
    if name == "tiled":  # a square grid of joints
        return (u < 1.5) | (v < 1.5)
    if name == "paper":  # folded: one half of the tile lies in shade
        return (v > u) * 0.8
    if name == "ceramic":  # rings
        radius = np.hypot(u - 4, v - 4)
        return (radius > 1.7) & (radius < 3.5)
    raise AssertionError(f"no texture for the material {name!r}")  # pragma: no cover


def texture(material: int, side: int, image_size: int, left: int, top: int) -> np.ndarray:
    """(side, side) ink coverage in [0, 1] for an object ``side`` pixels wide whose corner is at pixel (left, top)."""
    tile = TILE * image_size / 64
    return _texture(material, side, image_size, left % tile, top % tile)


@lru_cache(maxsize=4096)
def _texture(material: int, side: int, image_size: int, left: float, top: float) -> np.ndarray:
    fine = 4
    pixels = (np.arange(side * fine) + 0.5) / fine
    unit = 64 / image_size
    u, v = np.meshgrid((pixels + left) * unit % TILE, (pixels + top) * unit % TILE)
    ink = np.asarray(_ink(MATERIALS[material], u, v), dtype=float)
    return ink.reshape(side, fine, side, fine).mean((1, 3)).astype(np.float32)
