"""Recall at k of retrieval with any number of relevant items a query. Pure NumPy, float32."""

from collections.abc import Sequence
from math import comb

import numpy as np


def best_relevant_rank(scores: np.ndarray, relevant: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Rank of the best relevant item of every query.

    Args:
        scores: (Q, G) float32, a query against every gallery item.
        relevant: Q lists of gallery indices that answer the query.
    Returns:
        better (Q,): irrelevant items that score higher than the best relevant one, and tied (Q,): irrelevant items
        that score the same.
    Raises:
        ValueError: NaN, a query without a relevant item, or an index outside the gallery.
    """
    scores = np.asarray(scores, dtype=np.float32)
    if scores.ndim != 2 or len(relevant) != len(scores):
        raise ValueError(
            f"scores must be (queries, gallery) with a list for every query; got {scores.shape} and {len(relevant)} lists."
        )
    if np.isnan(scores).any():
        raise ValueError(
            f"{int(np.isnan(scores).any(1).sum())} queries hold NaN scores; a rank among NaN means nothing."
        )
    better = np.empty(len(scores), dtype=np.int64)
    tied = np.empty(len(scores), dtype=np.int64)
    for query, (row, items) in enumerate(zip(scores, relevant, strict=True)):
        items = np.unique(np.asarray(items, dtype=np.int64))
        if not len(items):
            raise ValueError(f"query {query} has no relevant item; its recall is undefined.")
        if items[0] < 0 or items[-1] >= row.size:
            raise ValueError(f"query {query} names items {items.tolist()}, outside a gallery of {row.size}.")
        best = row[items].max()
        better[query] = (row > best).sum()  # no relevant item is above the best one
        tied[query] = (row == best).sum() - (row[items] == best).sum()
    return better, tied


def chance_recall(relevant: Sequence[Sequence[int]], gallery: int, k: int) -> float:
    """Mean probability that a random order puts a relevant item among the first k: 1 - C(G-m, k) / C(G, k)."""
    k = min(k, gallery)
    sizes, counts = np.unique([len(set(items)) for items in relevant], return_counts=True)
    expected = sum(n * (1 - comb(gallery - int(m), k) / comb(gallery, k)) for m, n in zip(sizes, counts, strict=True))
    return float(expected / counts.sum())


def recall_at_k(
    scores: np.ndarray, relevant: Sequence[Sequence[int]], k: int | Sequence[int] = (1, 5, 10)
) -> dict[int, dict]:
    """Share of queries with at least one relevant item among the k best, ties counted as wrong.

    Args:
        scores: (Q, G) float32.
        relevant: Q lists of gallery indices (image → any of its captions; caption → its image).
        k: one or several numbers of places.
    Returns:
        k → recall, ties (queries that counting ties as right would add), chance, count, correct (Q,) bool.
    Raises:
        ValueError: no query, k < 1, or as `best_relevant_rank`.
    """
    places = [k] if isinstance(k, int) else list(k)
    if not len(scores) or not places or min(places) < 1:
        raise ValueError(f"needs at least one query and k >= 1; got {len(scores)} queries and k = {places}.")
    better, tied = best_relevant_rank(scores, relevant)
    results = {}
    for places_k in places:
        correct = better + tied < places_k
        results[places_k] = {
            "recall": float(correct.mean()),
            "ties": int(((better < places_k) & ~correct).sum()),
            "chance": chance_recall(relevant, np.shape(scores)[1], places_k),
            "count": len(correct),
            "correct": correct,
        }
    return results
