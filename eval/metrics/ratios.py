"""Ratios of sums, such as precision, recall and F1: zero where nothing is divided, with intervals over images."""

from __future__ import annotations

import numpy as np


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Element by element; 0 where the denominator is 0, as precision is where nothing was answered "yes"."""
    return np.divide(numerator, denominator, out=np.zeros(np.shape(numerator)), where=np.asarray(denominator) > 0)


def mean_ratio(numerators: np.ndarray, denominators: np.ndarray) -> float:
    """The mean over columns of sum(numerators) / sum(denominators).

    Args:
        numerators, denominators: (N, K): what each of N decisions adds to each of K ratios.
    """
    return float(ratio(numerators.sum(0), denominators.sum(0)).mean())


def mean_ratio_interval(
    numerators: np.ndarray,
    denominators: np.ndarray,
    groups: np.ndarray,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of :func:`mean_ratio`; whole groups (images) are resampled.

    Args:
        groups: (N,) the image of each decision.
    Returns:
        (low, high).
    """
    _, index = np.unique(groups, return_inverse=True)
    count = int(index.max()) + 1
    sums = np.zeros((2, count, numerators.shape[1]))
    np.add.at(sums[0], index, numerators)
    np.add.at(sums[1], index, denominators)
    random = np.random.default_rng(seed)
    means = np.empty(draws)
    for draw in range(draws):
        times = np.bincount(random.integers(count, size=count), minlength=count)
        means[draw] = ratio(times @ sums[0], times @ sums[1]).mean()
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
