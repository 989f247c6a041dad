"""Scores by box size. COCO's thresholds are areas in pixels; normalised boxes use fractions of the image."""

from __future__ import annotations

import numpy as np

from eval.metrics import bootstrap_interval
from eval.results import Result, Score

COCO_PIXELS = (32**2, 96**2)  # small < 32², medium < 96², large: the COCO detection challenge
# The same sizes as fractions of COCO's usual 640×480 image, for boxes without a size in pixels.
FRACTIONS = (32**2 / (640 * 480), 96**2 / (640 * 480))
SIZES = ("small", "medium", "large")


def add_size_breakdown(
    result: Result,
    better: np.ndarray,
    tied: np.ndarray,
    areas: np.ndarray,
    groups: np.ndarray,
    classes: int,
    thresholds: tuple[float, float] = FRACTIONS,
) -> None:
    """Top-1 of small, medium and large boxes.

    Args:
        better, tied: (N,) as `rank_of_reference`. areas: (N,) in the unit of `thresholds`. groups: (N,) images.
    """
    which = np.digitize(areas, thresholds)
    for size, name in enumerate(SIZES):
        chosen = which == size
        if chosen.any():
            correct = (better + tied < 1)[chosen]
            low, high = bootstrap_interval(correct, groups[chosen])
            ties = int(((better < 1) & (tied > 0))[chosen].sum())
            result.breakdown.setdefault(name, {})["top1"] = Score(
                float(correct.mean()), int(chosen.sum()), 1 / classes, low=low, high=high, ties=ties
            )
