"""Scenes as pixels: body with its texture, a border in its own color, a dark outline."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from dataset_scripts.sample.scene import Scene, SceneObject
from dataset_scripts.sample.shapes import OVERSAMPLE, hole, silhouette
from dataset_scripts.sample.textures import INKS, texture
from dataset_scripts.sample.vocabulary import COLOR_NAMES, COLORS, MATERIALS

BORDER_WIDTH = 1.7  # in 64ths of the image side
# The same. Dark around every color, so that a single patch shows the shape before the model knows any color. With an
# outline of 0.5 a small model learns the attributes, which tell nearly all regions of a batch apart, and not the shape.
OUTLINE_WIDTH = 1.0
OUTLINE = np.array([24, 24, 24], dtype=np.float32)
INK_STRENGTH = 0.85  # how far ink covers the body color
MIN_CONTRAST = 72  # between ink and body, in the channel where they differ most


@dataclass(frozen=True)
class PlacedBox:
    """The pixels that an object touches."""

    left: int
    top: int
    right: int  # exclusive
    bottom: int  # exclusive
    area: int  # in pixels: how many are at least half covered


def _grow(mask: np.ndarray, radius: float) -> np.ndarray:
    """Dilation by an octagon: a square and a cross of 3 pixels in turn come close to a disc."""
    padded = np.pad(mask, 1)
    for step in range(round(radius)):
        grown = padded.copy()
        for axis in (0, 1):
            source = grown if step % 2 == 0 else padded  # the square lets the first axis feed the second
            grown = grown | np.roll(source, 1, axis) | np.roll(source, -1, axis)
        padded = grown
    return padded[1:-1, 1:-1]


def _erode(mask: np.ndarray, radius: float) -> np.ndarray:
    margin = round(radius) + 1
    return ~_grow(np.pad(~mask, margin, constant_values=True), radius)[margin:-margin, margin:-margin]


def _average(mask: np.ndarray) -> np.ndarray:
    side = mask.shape[0] // OVERSAMPLE
    return mask.reshape(side, OVERSAMPLE, side, OVERSAMPLE).mean((1, 3)).astype(np.float32)


@lru_cache(maxsize=1024)
def _coverage(shape: int, side: int, image_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three (side, side) coverages in [0, 1]: whole object, object within its outline, body within its border."""
    whole = silhouette(shape, side)
    unit = image_size / 64 * OVERSAMPLE
    within_outline = _erode(whole, OUTLINE_WIDTH * unit)
    body = _erode(within_outline, BORDER_WIDTH * unit)
    cut = hole(shape, side)
    if cut is not None:
        within_cut = _grow(cut, OUTLINE_WIDTH * unit)
        whole, within_outline, body = whole & ~cut, within_outline & ~within_cut, body & ~within_cut
    return _average(whole), _average(within_outline), _average(body)


def _ink_color(material: int, body: np.ndarray) -> np.ndarray:
    """The material's ink; a body nearly of its color gets it darker or lighter, so that no texture disappears."""
    ink = np.array(INKS[MATERIALS[material]], dtype=np.float32)
    if np.abs(ink - body).max() < MIN_CONTRAST:
        target = 0.0 if float(body.mean()) > 127 else 255.0
        ink = ink + 0.5 * (target - ink)
    return body + INK_STRENGTH * (ink - body)


def _rgb(color: int) -> np.ndarray:
    return np.array(COLORS[COLOR_NAMES[color]], dtype=np.float32)


def _paint(canvas: np.ndarray, thing: SceneObject) -> PlacedBox:
    """Draws one object onto the (S, S, 3) float canvas and returns the pixels it touched."""
    image_size = canvas.shape[0]
    side = max(4, round(thing.extent * image_size))
    left, top = round(thing.left * image_size), round(thing.top * image_size)
    shape, color, material, border = thing.appearance
    whole, within_outline, body = _coverage(shape, side, image_size)
    ink = texture(material, side, image_size, left, top)[..., None]
    base = _rgb(color)
    fill = base + ink * (_ink_color(material, base) - base)
    patch = canvas[top : top + side, left : left + side]
    patch += whole[..., None] * (OUTLINE - patch)
    patch += within_outline[..., None] * (_rgb(border) - patch)
    patch += body[..., None] * (fill - patch)
    rows, columns = np.flatnonzero(whole.max(1) > 0), np.flatnonzero(whole.max(0) > 0)
    return PlacedBox(
        left + int(columns[0]),
        top + int(rows[0]),
        left + int(columns[-1]) + 1,
        top + int(rows[-1]) + 1,
        int((whole >= 0.5).sum()),
    )


def render(scene: Scene, image_size: int, rng: np.random.Generator) -> tuple[Image.Image, list[PlacedBox]]:
    """An (image_size × image_size) RGB picture of the scene and, in the scene's order, the box of each object."""
    slope = rng.uniform(-5, 5, size=2)
    ramp = np.linspace(-1, 1, image_size)
    shade = slope[0] * ramp[:, None] + slope[1] * ramp[None, :]
    canvas = (np.array(scene.background, dtype=np.float32) + shade[..., None]).astype(np.float32)
    boxes = [_paint(canvas, thing) for thing in scene.objects]
    return Image.fromarray(np.clip(np.rint(canvas), 0, 255).astype(np.uint8)), boxes
