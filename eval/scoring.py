"""Embeddings → scores, shared by the tasks: positive against negatives with a blind control, classes, retrieval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from eval.metrics import accuracy_interval, rank_of_reference, recall_at_k, top_k_accuracy
from eval.results import Result, Score

if TYPE_CHECKING:
    from torch import Tensor

CONTROL_RUNS = 5
CHUNK = 2048  # rows at a time, so that a score matrix stays small


def gathered_scores(queries: Tensor, texts: Tensor, candidates: Sequence[Sequence[int]]) -> np.ndarray:
    """Similarity of every query with its own candidates.

    Each product is one row against one row, so equal texts give equal scores to the last bit and ties are real.

    Args:
        queries: (N, D) normalized. texts: (T, D) normalized.
        candidates: N lists of indices into `texts`.
    Returns:
        (N, C) float32, -inf where a row has fewer candidates.
    """
    lengths = np.array([len(row) for row in candidates])
    index = np.zeros((len(candidates), lengths.max(initial=0)), dtype=np.int64)
    for place, row in zip(index, candidates, strict=True):
        place[: len(row)] = row
    queries, texts = queries.numpy(), texts.numpy()
    scores = np.concatenate(
        [
            np.einsum("nd,ncd->nc", queries[i : i + CHUNK], texts[index[i : i + CHUNK]])
            for i in range(0, len(index), CHUNK)
        ]
    )
    scores[np.arange(index.shape[1])[None] >= lengths[:, None]] = -np.inf
    return scores


def accuracy_score(outcome: Mapping, groups: np.ndarray | None) -> Score:
    """A `Score` from what `top_k_accuracy` or one k of `recall_at_k` returned, with its bootstrap interval."""
    low, high = accuracy_interval(outcome["correct"], groups)
    value = outcome["accuracy"] if "accuracy" in outcome else outcome["recall"]
    return Score(value, outcome["count"], outcome["chance"], low=low, high=high, ties=outcome["ties"])


def other_image_order(groups: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """For every row another row, of another image: no row keeps its own query or one of its own image.

    The rows stand in a random order of their images (and a random order within each), and everyone takes the row as many
    places on as the largest image has rows, which leads out of every image.

    Where one image holds more than half of the rows, this cannot be; then everyone takes the next row of a random order of
    all rows: no row keeps its own query, but one of its own image may be among them.

    Args:
        groups: (N,) image of each row, at least two rows.
    Returns:
        (N,) int64, a permutation.
    """
    _, image, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    largest = int(sizes.max())
    if 2 * largest <= len(groups):
        order = np.lexsort((random.random(len(groups)), random.permutation(len(sizes))[image]))
        step = largest
    else:
        order, step = random.permutation(len(groups)), 1
    taken = np.empty(len(groups), dtype=np.int64)
    taken[order] = np.roll(order, -step)
    return taken


def match_score(
    queries: Tensor, texts: Tensor, candidates: Sequence[Sequence[int]], groups: np.ndarray, seed: int = 0
) -> tuple[Score, np.ndarray, np.ndarray]:
    """Top-1 of each query's first candidate against its others, with the blind control.

    The control gives every row the query (region or image) of another image's row (see `other_image_order`), in
    `CONTROL_RUNS` seeded orders, so it scores what the captions alone give away. A single row has no other, and no control.

    Args:
        queries: (N, D). texts: (T, D). candidates: N lists of indices into `texts`, the positive first.
        groups: (N,) image of each row.
    Returns:
        the score, correct (N,) bool, and the scores (N, C).
    """
    reference = np.zeros(len(candidates), dtype=np.int64)
    scores = gathered_scores(queries, texts, candidates)
    outcome = top_k_accuracy(scores, reference)
    score = accuracy_score(outcome, groups)
    if len(queries) > 1:
        random = np.random.default_rng(seed)
        orders = [other_image_order(groups, random) for _ in range(CONTROL_RUNS)]
        controls = [
            top_k_accuracy(gathered_scores(queries[order], texts, candidates), reference)["accuracy"]
            for order in orders
        ]
        score.control, score.control_std = float(np.mean(controls)), float(np.std(controls))
    return score, outcome["correct"], scores


def class_ranks(queries: Tensor, classes: Tensor, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rank of the right class of every query among all classes.

    Args:
        queries: (N, D). classes: (C, D). labels: (N,).
    Returns:
        better (N,) and tied (N,), as `rank_of_reference`. Equal classes (two of one name) tie exactly.
    """
    distinct, place = classes.unique(dim=0, return_inverse=True)  # a product may round equal columns differently
    parts = [
        rank_of_reference((queries[i : i + CHUNK] @ distinct.T)[:, place].numpy(), labels[i : i + CHUNK])
        for i in range(0, len(queries), CHUNK)
    ]
    return np.concatenate([better for better, _ in parts]), np.concatenate([tied for _, tied in parts])


def add_class_scores(
    result: Result,
    better: np.ndarray,
    tied: np.ndarray,
    labels: np.ndarray,
    classes: int,
    groups: np.ndarray,
    ks: Sequence[int] = (1, 5),
    class_mean: bool = True,
) -> None:
    """Top-k over all decisions, and the mean over classes (each class counts the same, as CLIPSelf and FineCLIP report).

    A k that is not below the number of classes is left out, since it could not be missed; the settings say so.

    Raises:
        ValueError: fewer than two classes.
    """
    require_classes(result.task, classes)
    note_left_out(result, "scores_left_out", [f"top{k}" for k in ks if k >= classes], f"{classes} classes")
    for k in [k for k in ks if k < classes]:
        correct = better + tied < k
        low, high = accuracy_interval(correct, groups)
        chance = k / classes
        ties = int(((better < k) & ~correct).sum())
        result.scores[f"top{k}"] = Score(float(correct.mean()), len(correct), chance, low=low, high=high, ties=ties)
        result.outcomes[f"top{k}"], result.groups[f"top{k}"] = correct, groups
    for k in [k for k in ks if k < classes and class_mean]:
        counts = np.bincount(labels, minlength=classes)
        hits = np.bincount(labels, weights=better + tied < k, minlength=classes)
        seen = counts > 0
        result.scores[f"top{k}_class_mean"] = Score(
            float((hits[seen] / counts[seen]).mean()), int(seen.sum()), k / classes
        )


def add_retrieval_scores(
    result: Result,
    images: Tensor,
    captions: Tensor,
    owner: np.ndarray,
    texts: Sequence[str],
    prefix: str = "",
    ks: Sequence[int] = (1, 5, 10),
) -> None:
    """Image → text (any of an image's captions counts) and text → image recall.

    A caption that several images share is one text: it answers each of them, and each of them answers it. So equal texts
    are no ties. A k that is not below the gallery is left out (but for R@1), since it could not be missed; the settings say so.

    Args:
        images: (N, D). captions: (M, D), equal texts with equal embeddings. owner: (M,) image of each caption.
        texts: the M captions. prefix: put before the names of the scores.
    """
    distinct = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    place = np.array([distinct[text] for text in texts])  # caption → distinct text
    first = np.unique(place, return_index=True)[1]
    scores = (images @ captions[first].T).numpy()  # (N, distinct)
    image_answers: list[list[int]] = [[] for _ in range(len(images))]
    text_answers: list[list[int]] = [[] for _ in distinct]
    for image, text in zip(owner, place, strict=True):
        image_answers[image].append(int(text))
        text_answers[text].append(int(image))
    directions = {
        "i2t": (scores, image_answers, np.arange(len(images))),
        "t2i": (scores.T[place], [text_answers[text] for text in place], owner),
    }
    for direction, (matrix, relevant, groups) in directions.items():
        gallery = matrix.shape[1]
        counted = [k for k in ks if k < gallery] or [1]
        absent = [f"R@{k}" for k in ks if k not in counted]
        note_left_out(result, f"{prefix}{direction}_left_out", absent, f"gallery of {gallery}")
        for k, outcome in recall_at_k(matrix, relevant, counted).items():
            name = f"{prefix}{direction}_R@{k}"
            result.scores[name] = accuracy_score(outcome, groups)
            result.outcomes[name], result.groups[name] = outcome["correct"], groups


def require_classes(task: str, classes: int) -> None:
    """Raises:
    ValueError: fewer than two classes.
    """
    if classes < 2:
        raise ValueError(
            f"task {task}: needs at least two classes to choose from; got {classes}. Give it the whole class list."
        )


def note_left_out(result: Result, setting: str, scores: Sequence[str], reason: str) -> None:
    """Say in a result's settings which scores it does not hold, and why."""
    if scores:
        result.settings[setting] = f"{', '.join(scores)} ({reason})"
