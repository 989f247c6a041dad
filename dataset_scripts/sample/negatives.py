"""Wrong expressions for an object, drawn so that nobody can pick the right one without looking at the image.

In one set all ten negatives replace the same slots, and in each replaced slot the eleven values differ from one
another. Given the set, each of its eleven members was equally likely to be the one that is drawn in the image: the
positive is exchangeable with its negatives, and a reader of captions alone has accuracy 1/11 whatever it has learned.
"""

from __future__ import annotations

import numpy as np

from dataset_scripts.sample.vocabulary import (
    COLOR_NAMES,
    MATERIALS,
    RESIDUES,
    SHAPES,
    SLOTS,
    Appearance,
    Slot,
    Split,
    allowed,
    draw_appearance,
)

COUNT = 10


def _others(rng: np.random.Generator, candidates: np.ndarray, own: int) -> list[int]:
    return rng.permutation(candidates[candidates != own])[:COUNT].tolist()


def replace_slots(
    rng: np.random.Generator, looks: Appearance, slots: tuple[Slot, ...], split: Split
) -> list[Appearance]:
    """Ten appearances of the same shape that differ from ``looks`` in exactly ``slots``, all allowed in ``split``."""
    shape, color, material, border = looks
    colors, materials, borders = [color] * COUNT, [material] * COUNT, [border] * COUNT
    if "material" in slots:
        materials = _others(rng, np.arange(len(MATERIALS)), material)
    if "color" in slots and "border" in slots:
        # Pairs of the positive's own residue: each color has exactly one such border, so both slots are distinct
        # at once and every pair of the set sees the same others. Pairs drawn freely would not be exchangeable.
        same = RESIDUES[shape] == RESIDUES[looks.shape, color, border]
        colors = _others(rng, np.arange(len(COLOR_NAMES)), color)
        borders = [int(np.flatnonzero(same[other])[0]) for other in colors]
    elif "color" in slots:
        colors = _others(rng, np.flatnonzero(allowed(split)[shape, :, border]), color)
    elif "border" in slots:
        borders = _others(rng, np.flatnonzero(allowed(split)[shape, color]), border)
    return [Appearance(shape, *values) for values in zip(colors, materials, borders, strict=True)]


def draw_slots(rng: np.random.Generator, count: int) -> tuple[Slot, ...]:
    """``count`` of the three slots at random: 1 for hard negatives, 2 for medium, 3 for easy."""
    return tuple(SLOTS[index] for index in sorted(rng.permutation(len(SLOTS))[:count]))


def other_objects(rng: np.random.Generator, looks: Appearance, split: Split) -> list[Appearance]:
    """Ten objects of ten other shapes, everything about them drawn anew: trivial negatives."""
    shapes = _others(rng, np.arange(len(SHAPES)), looks.shape)
    return [draw_appearance(rng, split, shape) for shape in shapes]
