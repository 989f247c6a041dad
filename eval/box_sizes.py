"""Scores by box size. COCO's thresholds are areas in pixels; normalized boxes use fractions of the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.metrics import accuracy_interval
from eval.results import Result, Score


@dataclass(frozen=True)
class SizeRule:
    """What is small, medium and large.

    Attributes:
        thresholds: areas from which a box is medium, and large. rule: the same in words, for the result's settings.
    """

    thresholds: tuple[float, float]
    rule: str


# The COCO detection challenge, whose areas are those of the annotation (of its segment), not of the box.
COCO_PIXELS = SizeRule(
    (32**2, 96**2), "small < 32², medium < 96² pixels of the annotation's area, or of its box in the image without one"
)
# The same sizes as fractions of COCO's usual 640×480 image, for boxes without a size in pixels.
FRACTIONS = SizeRule(
    (32**2 / (640 * 480), 96**2 / (640 * 480)), "small < 0.33 %, medium < 3 % of the image, by the area of the box"
)
SIZES = ("small", "medium", "large")


def add_size_breakdown(
    result: Result,
    better: np.ndarray,
    tied: np.ndarray,
    areas: np.ndarray,
    groups: np.ndarray,
    classes: int,
    rule: SizeRule = FRACTIONS,
) -> None:
    """Top-1 of small, medium and large boxes; the rule stands in the settings.

    Args:
        better, tied: (N,) as `rank_of_reference`. areas: (N,) in the unit of `rule`. groups: (N,) images.
    """
    result.settings["box_sizes"] = rule.rule
    which = np.digitize(areas, rule.thresholds)
    for size, name in enumerate(SIZES):
        chosen = which == size
        if chosen.any():
            correct = (better + tied < 1)[chosen]
            low, high = accuracy_interval(correct, groups[chosen])
            ties = int(((better < 1) & (tied > 0))[chosen].sum())
            result.breakdown.setdefault(name, {})["top1"] = Score(
                float(correct.mean()), int(chosen.sum()), 1 / classes, low=low, high=high, ties=ties
            )


def fractions_of_image(normalized: np.ndarray) -> np.ndarray:
    """(K,) areas of normalized xyxy boxes (K, 4), of the part inside the image."""
    inner = np.clip(normalized, 0.0, 1.0)
    return (inner[:, 2] - inner[:, 0]) * (inner[:, 3] - inner[:, 1])
