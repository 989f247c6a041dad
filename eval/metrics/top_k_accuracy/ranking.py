"""Rank of the right answer among the candidates of a row, with ties kept apart. Pure NumPy, float32."""

from collections.abc import Sequence

import numpy as np


def padded(rows: Sequence[Sequence[float]]) -> np.ndarray:
    """Rows of unequal length as one (N, C) float32 array; missing places are -inf, which never beats anything."""
    lengths = [len(row) for row in rows]
    scores = np.full((len(rows), max(lengths, default=0)), -np.inf, dtype=np.float32)
    for place, row in zip(scores, rows, strict=True):
        place[: len(row)] = row
    return scores


def rank_of_reference(scores: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many candidates beat the right one, and how many equal it.

    Args:
        scores: (N, C) float32; -inf marks a place without a candidate.
        reference: (N,) index of the right candidate.
    Returns:
        better (N,) and tied (N,): counts of the other candidates with a higher and with the same score.
    Raises:
        ValueError: NaN scores, or a reference outside the row.
    """
    scores = np.asarray(scores, dtype=np.float32)
    reference = np.asarray(reference, dtype=np.int64)
    if scores.ndim != 2 or reference.shape != scores.shape[:1]:
        raise ValueError(f"scores must be (N, C) and reference (N,); got {scores.shape} and {reference.shape}.")
    if np.isnan(scores).any():
        raise ValueError(f"{int(np.isnan(scores).any(1).sum())} rows hold NaN scores; a rank among NaN means nothing.")
    if len(reference) and (reference.min() < 0 or reference.max() >= scores.shape[1]):
        raise ValueError(f"references must lie in 0…{scores.shape[1] - 1}; got {reference.min()}…{reference.max()}.")
    right = scores[np.arange(len(scores)), reference][:, None]
    if np.isneginf(right).any():
        raise ValueError("a reference points at a place without a candidate (-inf).")
    return (scores > right).sum(1), (scores == right).sum(1) - 1


def top_k_accuracy(scores: np.ndarray, reference: np.ndarray, k: int = 1) -> dict[str, float | int | np.ndarray]:
    """Share of rows whose right candidate is among the k best, ties counted as wrong.

    Args:
        scores: (N, C) float32, -inf where a row has fewer candidates; or rows of unequal length.
        reference: (N,) index of the right candidate.
        k: how many places count.
    Returns:
        accuracy, ties (rows that counting ties as right would add), chance (mean of min(1, k / candidates)), count,
        and correct (N,) bool.
    Raises:
        ValueError: no row, k < 1, or as `rank_of_reference`.
    """
    if not isinstance(scores, np.ndarray):
        scores = padded(scores)
    if k < 1 or not len(scores):
        raise ValueError(f"needs at least one row and k >= 1; got {len(scores)} rows and k = {k}.")
    better, tied = rank_of_reference(scores, reference)
    correct = better + tied < k
    candidates = (~np.isneginf(scores)).sum(1)
    return {
        "accuracy": float(correct.mean()),
        "ties": int(((better < k) & ~correct).sum()),
        "chance": float(np.minimum(1.0, k / candidates).mean()),
        "count": len(correct),
        "correct": correct,
    }
