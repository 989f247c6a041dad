"""What the generated sample can show: shapes, colors, materials, and which combinations are held out for testing.

The held-out rule has to satisfy three wishes at once. Nothing simpler than the triple (shape, color, border) may tell
the splits apart, or a model could learn the rule; every held-out object needs ten held-out neighbors to serve as its
negatives; and a reader of captions alone must stay at chance. A three-dimensional cyclic Latin pattern does it:
for any shape and color exactly 12 of the 24 borders are held out (and the same for any shape and border), and for any
color and border exactly half of the 12 shapes. So each pair of attributes is uniform in both splits.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

Split = Literal["train", "test"]
Slot = Literal["color", "material", "border"]

SHAPES = (
    "circle",
    "square",
    "triangle",
    "star",
    "cross",
    "ring",
    "heart",
    "crescent",
    "arrow",
    "hourglass",
    "dome",
    "flower",
)

# Chosen far apart: seven hues in three lightnesses, and three greys.
COLORS: dict[str, tuple[int, int, int]] = {
    "light red": (255, 140, 140),
    "red": (228, 18, 28),
    "dark red": (120, 0, 12),
    "light orange": (255, 196, 132),
    "orange": (255, 128, 0),
    "dark orange": (150, 74, 0),
    "light yellow": (255, 250, 160),
    "yellow": (250, 222, 0),
    "dark yellow": (138, 128, 0),
    "light green": (156, 238, 140),
    "green": (20, 172, 30),
    "dark green": (0, 78, 14),
    "light turquoise": (158, 242, 234),
    "turquoise": (0, 196, 188),
    "dark turquoise": (0, 94, 100),
    "light blue": (146, 186, 255),
    "blue": (28, 72, 244),
    "dark blue": (4, 14, 118),
    "light purple": (216, 160, 252),
    "purple": (156, 28, 216),
    "dark purple": (74, 0, 108),
    "black": (10, 10, 10),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
}
COLOR_NAMES = tuple(COLORS)

# Each has its own texture in render.py.
MATERIALS = (
    "plastic",
    "striped",
    "dotted",
    "checkered",
    "wooden",
    "metal",
    "rattan",
    "stone",
    "brick",
    "zigzag",
    "glass",
    "tiled",
    "paper",
    "ceramic",
)
SLOTS: tuple[Slot, ...] = ("color", "material", "border")

# Fixed once, from a random generator, so that neighboring names share no rule.
_COLOR_RANK = np.array([15, 4, 18, 3, 14, 12, 10, 0, 19, 17, 8, 7, 1, 22, 13, 6, 16, 5, 23, 20, 2, 21, 9, 11])
_BORDER_RANK = np.array([10, 2, 8, 7, 20, 12, 15, 0, 17, 6, 22, 4, 16, 21, 11, 13, 5, 1, 19, 9, 3, 14, 18, 23])
_SHAPE_RANK = np.array([8, 9, 11, 10, 3, 5, 1, 7, 0, 2, 6, 4])
# Half of the 24 residues; six even and six odd, which is what makes color and border independent of each other.
_HELD_OUT_RESIDUES = (0, 3, 6, 7, 10, 14, 15, 17, 20, 21, 22, 23)

# (12, 24, 24) residue of each (shape, color, border).
RESIDUES = (2 * _SHAPE_RANK[:, None, None] + _COLOR_RANK[None, :, None] + _BORDER_RANK[None, None, :]) % 24
# (12, 24, 24) whether the combination is shown and named in the test split alone.
HELD_OUT = np.isin(RESIDUES, _HELD_OUT_RESIDUES)


class Appearance(NamedTuple):
    """What a short expression says of an object, as indices into SHAPES, COLOR_NAMES, MATERIALS and COLOR_NAMES."""

    shape: int
    color: int
    material: int
    border: int


def allowed(split: Split) -> np.ndarray:
    """(12, 24, 24) booleans: the (shape, color, border) combinations that a split may show or name."""
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}; it must be 'train' or 'test'")
    return HELD_OUT if split == "test" else ~HELD_OUT


def draw_appearance(rng: np.random.Generator, split: Split, shape: int) -> Appearance:
    """A uniform draw over everything the split allows for this shape."""
    color = int(rng.integers(len(COLOR_NAMES)))
    border = int(rng.choice(np.flatnonzero(allowed(split)[shape, color])))
    return Appearance(shape, color, int(rng.integers(len(MATERIALS))), border)
