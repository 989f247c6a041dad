"""Where the objects of a scene lie: 2 to 4 objects, one to a quadrant, never overlapping. No pixels here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dataset_scripts.sample.vocabulary import SHAPES, Appearance, Split, draw_appearance

# In 64ths of the image side: a large object fills most of its quadrant, a small one still has room for its texture.
SIZES = {"small": (22, 23), "large": (28, 29)}
# Where in its quadrant an object's square may begin: in steps of the textures' tiles, so that a silhouette, too, meets
# the patches of a small model in a few ways instead of in all.
OFFSETS = {"small": (0.5, 8.5), "large": (1.5,)}
QUADRANTS = ("top left", "top right", "bottom left", "bottom right")


@dataclass(frozen=True)
class SceneObject:
    """One object: its looks, its square in the image (fractions) and the words for both."""

    appearance: Appearance
    size: str  # "small" or "large"
    position: str  # one of QUADRANTS
    left: float
    top: float
    extent: float  # side of the square that the object's drawing fills


@dataclass(frozen=True)
class Scene:
    """The objects in reading order and the background they lie on."""

    objects: tuple[SceneObject, ...]
    background: tuple[int, int, int]  # RGB, pale and nearly grey, so that every color stands out


def draw_scene(rng: np.random.Generator, split: Split) -> Scene:
    """A random scene whose (shape, color, border) combinations all belong to ``split``."""
    count = int(rng.choice((2, 3, 4), p=(0.4, 0.35, 0.25)))
    quadrants = sorted(rng.permutation(len(QUADRANTS))[:count].tolist())
    # Distinct shapes, so that "the star" is one object of the scene.
    shapes = rng.permutation(len(SHAPES))[:count].tolist()
    objects = []
    for quadrant, shape in zip(quadrants, shapes, strict=True):
        appearance = draw_appearance(rng, split, shape)
        size = "large" if rng.random() < 0.5 else "small"
        extent = float(rng.choice(SIZES[size])) / 64
        left = 0.5 * (quadrant % 2) + float(rng.choice(OFFSETS[size])) / 64
        top = 0.5 * (quadrant // 2) + float(rng.choice(OFFSETS[size])) / 64
        objects.append(SceneObject(appearance, size, QUADRANTS[quadrant], left, top, extent))
    base = rng.integers(196, 222)
    background = tuple(int(base + shift) for shift in rng.integers(-9, 10, size=3))
    return Scene(tuple(objects), background)
