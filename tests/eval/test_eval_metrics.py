"""Metrics against naive oracles and closed forms."""

from __future__ import annotations

from itertools import combinations
from math import comb
from pathlib import Path

import evaluate
import numpy as np
import pytest

from eval.metrics import (
    bootstrap_interval,
    chance_recall,
    padded,
    paired_difference,
    recall_at_k,
    sign_test,
    top_k_accuracy,
)

METRICS = Path(__file__).parents[2] / "eval" / "metrics"


def naive_top_k(rows: list[list[float]], reference: list[int], k: int) -> float:
    """Sort every row; the right one must come before all equals to count."""
    right = 0
    for row, answer in zip(rows, reference, strict=True):
        order = sorted(range(len(row)), key=lambda i: (-row[i], i == answer))  # the right one last among equals
        right += answer in order[:k]
    return right / len(rows)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_agrees_with_sorting_on_ragged_rows_with_ties(k):
    random = np.random.default_rng(0)
    rows = [random.integers(0, 4, random.integers(1, 9)).astype(np.float32).tolist() for _ in range(300)]
    reference = [int(random.integers(len(row))) for row in rows]
    outcome = top_k_accuracy(rows, np.array(reference), k)
    assert outcome["accuracy"] == naive_top_k(rows, reference, k)
    assert outcome["chance"] == pytest.approx(np.mean([min(1, k / len(row)) for row in rows]))
    generous = np.mean([sum(v > row[a] for v in row) < k for row, a in zip(rows, reference, strict=True)])
    assert outcome["accuracy"] + outcome["ties"] / len(rows) == pytest.approx(generous)


def test_a_model_that_gives_everything_the_same_score_is_never_right():
    outcome = top_k_accuracy(np.zeros((7, 11), np.float32), np.zeros(7, int))
    assert (outcome["accuracy"], outcome["ties"]) == (0.0, 7)


@pytest.mark.parametrize(
    ("scores", "reference", "message"),
    [
        (np.array([[np.nan, 1.0]], np.float32), [0], "NaN"),
        (np.array([[0.0, 1.0]], np.float32), [2], "references must lie in"),
        (padded([[1.0], [1.0, 2.0]]), [1, 1], "without a candidate"),
        (np.zeros((0, 2), np.float32), [], "at least one row"),
    ],
)
def test_top_k_refuses_what_has_no_rank(scores, reference, message):
    with pytest.raises(ValueError, match=message):
        top_k_accuracy(scores, np.array(reference, int))


def test_recall_agrees_with_sorting():
    random = np.random.default_rng(1)
    scores = random.integers(0, 12, (80, 30)).astype(np.float32)
    relevant = [random.choice(30, random.integers(1, 6), replace=False).tolist() for _ in range(80)]
    results = recall_at_k(scores, relevant, (1, 5, 10))
    for k, outcome in results.items():
        hits = 0
        for row, items in zip(scores, relevant, strict=True):
            order = sorted(range(30), key=lambda i: (-row[i], i in items))  # relevant ones last among equals
            hits += bool(set(order[:k]) & set(items))
        # Of several relevant items that tie with irrelevant ones only the best place counts, so sorting is the oracle
        # up to ties among the relevant items themselves, which are no error.
        assert outcome["recall"] == pytest.approx(hits / 80, abs=1e-12)


def test_chance_recall_counts_all_orders():
    relevant, gallery = [[0, 3], [2]], 6
    for k in (1, 2, 5):
        exact = np.mean(
            [
                np.mean([bool(set(first) & set(items)) for first in combinations(range(gallery), k)])
                for items in relevant
            ]
        )
        assert chance_recall(relevant, gallery, k) == pytest.approx(exact)


def test_bootstrap_covers_and_widens_with_clusters():
    random = np.random.default_rng(0)
    inside = 0
    for trial in range(60):
        values = random.random(200) < 0.3
        low, high = bootstrap_interval(values, draws=300, seed=trial)
        inside += low <= 0.3 <= high
    assert inside >= 50  # 95 % of 60 is 57; 50 is far out in the tail of a correct method
    images = np.repeat(np.arange(40), 5)
    same_in_image = np.repeat(random.random(40) < 0.5, 5)
    low, high = bootstrap_interval(same_in_image, images)
    low_alone, high_alone = bootstrap_interval(same_in_image)
    assert (high - low) > 1.7 * (high_alone - low_alone)  # √5 wider, since only 40 decisions are independent


def test_sign_test_is_the_binomial():
    first = np.array([1] * 9 + [0] * 2 + [1] * 30, bool)
    second = np.array([0] * 9 + [1] * 2 + [1] * 30, bool)
    assert sign_test(first, second) == pytest.approx(2 * sum(comb(11, i) for i in range(3)) / 2**11)
    assert sign_test(first, first) == 1.0
    difference = paired_difference(first, second, np.arange(41))
    assert difference["difference"] == pytest.approx(-7 / 41)
    assert difference["low"] < -7 / 41 < difference["high"]
    with pytest.raises(ValueError, match="41 and 40 decisions"):
        paired_difference(first, second[1:], np.arange(41))


def test_evaluate_loads_the_modules_from_their_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    accuracy = evaluate.load(str(METRICS / "top_k_accuracy"), cache_dir=str(tmp_path))
    assert accuracy.compute(predictions=[[0.9, 0.1], [0.2, 0.7, 0.1]], references=[0, 0]) == {
        "accuracy": 0.5,
        "ties": 0,
        "chance": pytest.approx((1 / 2 + 1 / 3) / 2),
        "count": 2,
    }
    recall = evaluate.load(str(METRICS / "retrieval_recall"), cache_dir=str(tmp_path))
    result = recall.compute(predictions=[[0.9, 0.1], [0.8, 0.3]], references=[[0], [1]], k=[1])
    assert result == {"recall@1": 0.5, "ties@1": 0, "chance@1": 0.5, "count": 2}
