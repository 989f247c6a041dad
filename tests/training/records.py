"""Records for training tests: images of noise, distinct captions, as many regions and negatives as asked for."""

from typing import Any

import numpy as np
from PIL import Image

COLORS = ["red", "green", "blue", "yellow", "black", "white", "grey", "pink", "orange", "purple", "brown"]
SHAPES = ["star", "circle", "square", "dog", "cat", "bird", "sofa", "field"]


def make_region(number: int, negatives: int) -> dict[str, Any]:
    color, shape = COLORS[number % len(COLORS)], SHAPES[number % len(SHAPES)]
    corner = 0.05 * (number % 7)
    return {
        "bbox": [corner, corner / 2, corner + 0.4, corner / 2 + 0.5],
        "score": 1.0,
        "short_expr": f"a {color} {shape}",
        "long_expr": f"a {color} {shape} next to a tree",
        "negatives": [f"a {other} {shape}" for other in COLORS if other != color][:negatives],
    }


def make_record(number: int, regions: int = 0, negatives: int = 0) -> dict[str, Any]:
    """Record `number` with so many regions, the first of which have so many negatives each."""
    pixels = np.random.default_rng(number).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    return {
        "image": Image.fromarray(pixels),
        "caption": f"The photo shows a {COLORS[number % 11]} {SHAPES[number % 8]} and {number} small birds in a field.",
        "short_captions": [f"a {SHAPES[number % 8]} and {number} birds"],
        "regions": [make_region(10 * number + index, negatives) for index in range(regions)],
        "source_id": f"record-{number}",
    }
