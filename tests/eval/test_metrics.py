"""Metrics against naive oracles and closed forms."""

from __future__ import annotations

from itertools import combinations, product
from math import comb
from pathlib import Path

import evaluate
import numpy as np
import pytest

from eval.metrics import (
    accuracy_interval,
    bootstrap_interval,
    chance_recall,
    padded,
    paired_difference,
    permutation_test,
    recall_at_k,
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


def binomial(wins: int, losses: int) -> float:
    """The two-sided sign test."""
    return 2 * sum(comb(wins + losses, i) for i in range(min(wins, losses) + 1)) / 2 ** (wins + losses)


@pytest.mark.parametrize(("wins", "losses", "tolerance"), [(2, 9, 1e-12), (12, 3, 0.008)])  # all swaps, random swaps
def test_permutation_of_single_decisions_is_the_sign_test(wins, losses, tolerance):
    first = np.array([1] * losses + [0] * wins + [1] * 30, bool)
    second = np.array([0] * losses + [1] * wins + [1] * 30, bool)
    alone = np.arange(len(first))
    assert permutation_test(first, second, alone) == pytest.approx(binomial(wins, losses), abs=tolerance)
    assert permutation_test(first, first, alone) == 1.0
    difference = paired_difference(first, second, alone)
    change = (wins - losses) / len(first)
    assert difference["difference"] == pytest.approx(change)
    assert difference["low"] < change < difference["high"]
    with pytest.raises(ValueError, match=f"{len(first)} and {len(first) - 1} decisions"):
        paired_difference(first, second[1:], alone)


def test_decisions_of_one_image_are_swapped_together():
    images = np.repeat(np.arange(6), 10)
    better = np.repeat(np.array([1, 1, 1, 0, 0, -1]), 10)  # three images gain all ten rows, one loses them
    first, second = better < 0, better > 0
    swaps = [abs(np.dot(signs, (10, 10, 10, -10))) >= 20 for signs in product((1, -1), repeat=4)]
    assert permutation_test(first, second, images) == pytest.approx(np.mean(swaps))  # 10 of 16
    assert permutation_test(first, second, np.arange(60)) < 0.002  # as if the rows were independent
    difference = paired_difference(first, second, images)
    assert difference["low"] <= 0 <= difference["high"]
    assert difference["p"] > 0.05


def test_an_interval_where_all_are_right_is_not_empty():
    exact = 0.025 ** (1 / 23)  # Clopper-Pearson: the share p with p^23 = 2.5 %
    assert accuracy_interval(np.ones(23, bool)) == pytest.approx((exact, 1.0))
    assert accuracy_interval(np.zeros(23, bool)) == pytest.approx((0.0, 1 - exact))
    assert accuracy_interval(np.ones(46, bool), np.repeat(np.arange(23), 2)) == pytest.approx((exact, 1.0))
    mixed = np.arange(40) % 3 == 0
    assert accuracy_interval(mixed) == bootstrap_interval(mixed)


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
