"""The blind control's orders, and what is refused or said about scores that cannot be computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eval.results import Result
from eval.scoring import CONTROL_RUNS, add_class_scores, add_retrieval_scores, match_score, other_image_order

UNEVEN = [[0, 0, 0, 1, 1, 2], [5, 5, 7, 7], list(range(9)), [3, 1, 3, 2, 3, 1], sorted([0] * 10 + list(range(1, 15)))]


@pytest.mark.parametrize("groups", UNEVEN)
@pytest.mark.parametrize("seed", range(20))
def test_no_row_gets_a_row_of_its_own_image(groups, seed):
    groups = np.array(groups)
    order = other_image_order(groups, np.random.default_rng(seed))
    assert sorted(order) == list(range(len(groups)))
    assert (groups[order] != groups).all()


@pytest.mark.parametrize("groups", [[0, 0], [4, 4, 4, 1], [0, 0, 0, 1, 2]])
def test_an_image_with_most_rows_leaves_no_row_its_own(groups):
    order = other_image_order(np.array(groups), np.random.default_rng(0))
    assert sorted(order) == list(range(len(groups)))
    assert (order != np.arange(len(groups))).all()


def test_every_other_image_is_reached():
    """The orders are random: a row meets each of the other images about equally often."""
    groups, random = np.repeat(np.arange(4), 2), np.random.default_rng(0)
    met = np.bincount([groups[other_image_order(groups, random)[0]] for _ in range(600)], minlength=4)
    assert met[0] == 0
    assert (met[1:] > 150).all()


def test_control_by_hand():
    """Two rows of opposite queries: each is right, and with the other's query each is wrong, in every run."""
    queries = texts = torch.eye(2)
    score, correct, _ = match_score(queries, texts, [[0, 1], [1, 0]], np.array([0, 1]))
    assert (score.value, score.control, score.control_std, correct.tolist()) == (1.0, 0.0, 0.0, [True, True])
    assert CONTROL_RUNS == 5
    again, _, _ = match_score(queries, texts, [[0, 1], [0, 1]], np.array([0, 1]))
    assert (again.value, again.control) == (0.5, 0.5)  # the positive is the same text: nothing but a prior
    alone, _, _ = match_score(queries[:1], texts, [[0, 1]], np.array([0]))
    assert (alone.value, alone.control) == (1.0, None)


def test_one_class_is_refused_and_few_are_said():
    result = Result("boxes", {})
    zero, labels = np.zeros(3, np.int64), np.zeros(3, np.int64)
    with pytest.raises(ValueError, match=r"task boxes: needs at least two classes .* got 1"):
        add_class_scores(result, zero, zero, labels, 1, zero)
    add_class_scores(result, zero, zero, labels, 4, np.arange(3))
    assert list(result.scores) == ["top1", "top1_class_mean"]
    assert result.settings == {"scores_left_out": "top5 (4 classes)"}


def test_recalls_that_could_not_be_missed_are_named():
    result = Result("retrieval", {})
    features = torch.nn.functional.normalize(torch.randn(7, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    add_retrieval_scores(result, features, features, np.arange(7), [str(i) for i in range(7)], prefix="short_")
    assert list(result.scores) == ["short_i2t_R@1", "short_i2t_R@5", "short_t2i_R@1", "short_t2i_R@5"]
    assert result.settings == {
        "short_i2t_left_out": "R@10 (gallery of 7)",
        "short_t2i_left_out": "R@10 (gallery of 7)",
    }
