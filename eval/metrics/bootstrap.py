"""Bootstrap intervals and the significance of a difference, resampling images: decisions on one image go together."""

from __future__ import annotations

import numpy as np


def _resampled_means(values: np.ndarray, groups: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """(draws,) means of `values` over groups drawn with replacement."""
    _, index = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(index, weights=values), np.bincount(index).astype(np.float64)
    random = np.random.default_rng(seed)
    means = np.empty(draws)
    for draw in range(draws):
        times = np.bincount(random.integers(len(sums), size=len(sums)), minlength=len(sums))
        means[draw] = (times @ sums) / (times @ sizes)
    return means


def bootstrap_interval(
    values: np.ndarray, groups: np.ndarray | None = None, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean.

    Args:
        values: (N,) outcomes, one a decision.
        groups: (N,) the image of each decision; whole images are resampled. None: every decision is its own group.
        draws, level, seed: resamples, coverage, and the generator's seed.
    Returns:
        (low, high); with a single group the value itself twice, since nothing can be resampled.
    """
    values = np.asarray(values, dtype=np.float64)
    groups = np.arange(len(values)) if groups is None else np.asarray(groups)
    tail = (1 - level) / 2
    low, high = np.quantile(_resampled_means(values, groups, draws, seed), [tail, 1 - tail])
    return float(low), float(high)


def accuracy_interval(
    correct: np.ndarray, groups: np.ndarray | None = None, level: float = 0.95
) -> tuple[float, float]:
    """Interval of a share of right decisions: the bootstrap over images, which knows no doubt where all are alike.

    There the exact binomial interval (Clopper and Pearson, 1934) over the number of images stands in, as one image is
    all that is surely independent.

    Args:
        correct: (N,) bool. groups: (N,) the image of each decision; None: every decision is its own.
    """
    correct = np.asarray(correct, dtype=bool)
    if not (correct.all() or not correct.any()):
        return bootstrap_interval(correct, groups, level=level)
    images = len(correct) if groups is None else len(np.unique(groups))
    reach = float(((1 - level) / 2) ** (1 / images))
    return (reach, 1.0) if correct.all() else (0.0, 1.0 - reach)


EXACT_UP_TO = 13  # images that differ: 8,192 ways to swap them


def permutation_test(
    first: np.ndarray, second: np.ndarray, groups: np.ndarray, draws: int = 10_000, seed: int = 0
) -> float:
    """Two-sided permutation test of a paired difference: the decisions on each image change sides together.

    Decisions on one image are not independent, so whole images are swapped between the runs. All swaps are counted
    where at most 13 images differ, `draws` random ones elsewhere.

    Args:
        first, second: (N,) bool, right or wrong, the same decisions in the same order.
        groups: (N,) the image of each decision.
    Returns:
        The p value: how often swapping gives a difference at least as large; 1.0 without a difference.
    """
    change = np.asarray(second, dtype=np.int64) - np.asarray(first, dtype=np.int64)
    _, index = np.unique(groups, return_inverse=True)
    sums = np.bincount(index, weights=change).astype(np.int64)
    observed = abs(int(sums.sum()))
    sums = sums[sums != 0]
    if not len(sums):
        return 1.0
    if len(sums) <= EXACT_UP_TO:
        swaps = np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1
        return float((np.abs((2 * swaps - 1) @ sums) >= observed).mean())
    random = np.random.default_rng(seed)
    as_large, chunk = 0, 250
    for start in range(0, draws, chunk):
        signs = 2 * random.integers(0, 2, (min(chunk, draws - start), len(sums)), dtype=np.int8) - 1
        as_large += int((np.abs(signs.astype(np.float64) @ sums) >= observed).sum())
    return (1 + as_large) / (1 + draws)


def paired_difference(
    first: np.ndarray, second: np.ndarray, groups: np.ndarray, draws: int = 1000, seed: int = 0
) -> dict[str, float]:
    """Difference of two runs on the same decisions: second - first, its 95 % interval and p value, both over images.

    Raises:
        ValueError: the runs hold different numbers of decisions.
    """
    if np.shape(first) != np.shape(second):
        raise ValueError(f"the runs hold {len(first)} and {len(second)} decisions; compare runs on the same data.")
    change = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    low, high = bootstrap_interval(change, groups, draws, seed=seed)
    return {"difference": float(change.mean()), "low": low, "high": high, "p": permutation_test(first, second, groups)}
