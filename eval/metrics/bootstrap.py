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


def sign_test(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided exact sign test (McNemar) on the decisions in which two runs disagree.

    Args:
        first, second: (N,) bool, right or wrong, the same decisions in the same order.
    Returns:
        The p value; 1.0 without a disagreement.
    """
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    wins, losses = int((first & ~second).sum()), int((second & ~first).sum())
    total = wins + losses
    tail, term = 0, 1  # sums of binomial coefficients, in exact integers; 2^total divides at the end
    for i in range(min(wins, losses) + 1):
        tail += term
        term = term * (total - i) // (i + 1)
    return min(1.0, 2 * tail / 2**total)


def paired_difference(
    first: np.ndarray, second: np.ndarray, groups: np.ndarray, draws: int = 1000, seed: int = 0
) -> dict[str, float]:
    """Difference of two runs on the same decisions: second - first, its 95 % interval over images, and the p value.

    Raises:
        ValueError: the runs hold different numbers of decisions.
    """
    if np.shape(first) != np.shape(second):
        raise ValueError(f"the runs hold {len(first)} and {len(second)} decisions; compare runs on the same data.")
    change = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    low, high = bootstrap_interval(change, groups, draws, seed=seed)
    return {"difference": float(change.mean()), "low": low, "high": high, "p": sign_test(first, second)}
